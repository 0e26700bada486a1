"""Where pictures come from: each module lists one kind of source, without decoding any."""
