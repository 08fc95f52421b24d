import pytest

from lab.engine.options import read_options
from lab.engine.wire import ApiError


def test_the_request_wins_over_the_model_over_the_default() -> None:
    options = read_options({"temperature": 0.1, "stop": ["a"]}, {"top_k": 5.0, "stop": ["b"], "bogus": 1, "seed": None})
    assert options.sampling == {
        **{"n_keep": 4, "seed": -1, "top_k": 5, "top_p": 0.9, "min_p": 0.0, "temperature": 0.1},
        "stop": ["b"],
    }
    assert isinstance(options.sampling["top_k"], int)


@pytest.mark.parametrize(("asked", "limit"), [(1, 1), (4096, 4096), (0, 2560), (-1, 2560), (-2, 2560)])
def test_no_limit_is_ten_contexts(asked: int, limit: int) -> None:
    assert read_options({}, {"num_predict": asked}).limit(256) == limit
    assert read_options({}, {}).limit(256) == 2560


def test_the_smallest_context() -> None:
    assert read_options({}, {"num_ctx": 0}).num_ctx == 4
    assert read_options({}, {}).num_ctx is None


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("temperature", "hot", 'option "temperature" must be of type float32'),
        ("num_predict", "5", 'option "num_predict" must be of type integer'),
        ("num_predict", True, 'option "num_predict" must be of type integer'),
        ("use_mmap", 1, 'option "use_mmap" must be of type boolean'),
        ("stop", "x", 'option "stop" must be of type array'),
        ("stop", ["x", 1], 'option "stop" must be of an array of strings'),
    ],
)
def test_options_of_another_type(option: str, value: object, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_options({}, {option: value})
    assert (caught.value.status, caught.value.message) == (500, message)


def test_an_option_that_comes_with_the_model_is_checked_too() -> None:
    with pytest.raises(ApiError, match='option "seed" must be of type integer'):
        read_options({"seed": "x"}, {})
