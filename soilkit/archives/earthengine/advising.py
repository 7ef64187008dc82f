"""What to do when Earth Engine does not let us in, in one sentence."""

import re

_NO_PROJECT = (
    "Earth Engine needs a Google Cloud project: name yours with connect(project='...') or in the "
    "environment variable EARTHENGINE_PROJECT."
)
_NO_API = (
    "The project {project} may not use Earth Engine: enable the API at "
    "https://console.cloud.google.com/apis/library/earthengine.googleapis.com and register the "
    "project at https://console.cloud.google.com/earth-engine."
)
_NO_RIGHT = (
    "This account may not use the project {project}: check its name, or ask its owner for the "
    "roles 'Earth Engine Resource Viewer' and 'Service Usage Consumer'."
)
_NO_LOGIN = (
    "No Earth Engine login was found: run `earthengine authenticate` once on this machine, or, "
    "for a service account, point GOOGLE_APPLICATION_CREDENTIALS to its key file."
)
_EXPIRED = (
    "The Earth Engine login was refused, as when it expired or was revoked: run `earthengine "
    "authenticate --force` (or renew the service account's key) and try again."
)
_NO_NETWORK = (
    "Earth Engine cannot be reached: check the network connection and the proxy settings "
    "(HTTPS_PROXY), then try again."
)
# Which words of an error call for which advice; the first that matches.
_ADVICE = (
    (r"no project found", _NO_PROJECT),
    (r"has not been used in project|SERVICE_DISABLED|not (signed up|registered)", _NO_API),
    (r"not have (the )?required permission|USER_PROJECT_DENIED|PERMISSION_DENIED", _NO_RIGHT),
    (r"project.*(not found|invalid|does not exist)|CONSUMER_INVALID", _NO_RIGHT),
    (r"RefreshError|invalid_grant|expired|revoked|invalid authentication", _EXPIRED),
    (r"Please authorize|DefaultCredentialsError|earthengine authenticate", _NO_LOGIN),
    (r"TransportError|ConnectionError|Timeout|ServerNotFound|Max retries|OSError", _NO_NETWORK),
)  # fmt: skip


def advice(error: BaseException, project: str | None = None) -> str:
    """What to do about a failed login, with the error's own words behind."""
    said = " ".join(str(error).split())
    kinds = " ".join(kind.__name__ for kind in type(error).__mro__)
    for words, what in _ADVICE:
        if re.search(words, f"{said} {kinds}", re.IGNORECASE | re.DOTALL):
            return f"{what.format(project=project or 'in use')} ({said[:300]})"
    return f"Earth Engine does not let us in; its own words say why: {said[:500]}"
