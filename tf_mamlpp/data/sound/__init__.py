"""Recordings: files of sound, and their spectrograms."""
