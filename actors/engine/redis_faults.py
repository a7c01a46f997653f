"""What a failure of Redis is called in logs and sentences."""

from redis.exceptions import ResponseError


def told(error: BaseException) -> str:
    """Whether Redis does not answer, or has answered that it won't: a replica, a full one, an old one."""
    if isinstance(error, ResponseError):
        return f"Redis refuses ({error})"
    return f"Redis does not answer ({type(error).__name__})"
