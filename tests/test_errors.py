import pytest
import tensorflow as tf

from tf_mamlpp.errors import UserError, WorkerLost, reason, writing


def test_a_reason_is_one_line_without_names_of_nodes():
    message = "{{function_node __wrapped__SaveV2_dtypes_2}} a/b.index; No space left on device [Op:SaveV2]\n more"
    assert reason(tf.errors.ResourceExhaustedError(None, None, message)) == "a/b.index; No space left on device"
    assert reason(OSError(28, "No space left on device", "a/b")) == "[Errno 28] No space left on device: 'a/b'"
    assert reason(KeyboardInterrupt()) == "KeyboardInterrupt"


@pytest.mark.parametrize(
    "error, kinds",
    [
        (OSError(28, "No space left on device"), ()),
        (PermissionError(13, "Permission denied"), ()),
        (tf.errors.ResourceExhaustedError(None, None, "No space left on device"), (tf.errors.OpError,)),
    ],
)
def test_what_cannot_be_written_names_the_folder_and_the_mend(tmp_path, error, kinds):
    with pytest.raises(UserError, match=f"cannot write in '{tmp_path}': .*(space|Perm).*; free some space or mend"):
        with writing(tmp_path, *kinds):
            raise error


@pytest.mark.parametrize("error", [ValueError("x"), UserError("y"), tf.errors.InternalError(None, None, "z")])
def test_other_errors_stay_what_they_are(tmp_path, error):
    with pytest.raises(type(error)) as caught, writing(tmp_path):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("kind", [UserError, WorkerLost])
def test_errors_pass_through_autograph(kind):
    """Which makes a new error of each; of others than Exception's constructor it makes a StagingError."""
    assert issubclass(kind, ValueError)

    @tf.function
    def refused(x):
        if tf.reduce_all(x > 0):
            raise kind("give a smaller way")
        return x

    with pytest.raises(kind, match="give a smaller way"):
        refused(tf.ones(2))
