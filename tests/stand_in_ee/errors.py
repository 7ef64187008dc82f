"""What the server answers instead of a result."""

STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class Answer(Exception):
    """An error answer: its HTTP code and its message."""

    def __init__(self, message: str, code: int = 400, headers: dict | None = None):
        super().__init__(message)
        self.message, self.code, self.headers = message, code, headers or {}

    @property
    def body(self) -> dict:
        error = {"code": self.code, "message": self.message, "status": STATUS[self.code]}
        return {"error": error}
