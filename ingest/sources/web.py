"""Fetches one picture from a web address, within the limits that every picture has."""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
from urllib.parse import SplitResult, urljoin, urlsplit

from indexes.deadline import within
from indexes.errors import UsageError
from ingest.read.images import MAX_BYTES

#: Seconds for the whole download.
SECONDS = 30.0

_MOST_REDIRECTS = 5


def fetch(address: str, allow_private: bool = False, seconds: float = SECONDS) -> bytes:
    """The bytes of a picture at a web address.

    Only public addresses are asked, so that nobody's address reaches a machine of the user's own
    network; each redirect is checked like the first address. Nothing of the user's is sent: no
    cookies, no credentials. Proxies are not used.

    Args:
        address: begins with ``http://`` or ``https://``.
        allow_private: also ask machines of private networks.
        seconds: for the whole download.

    Raises:
        UsageError: if it cannot be fetched, is too large, or is not a picture.
    """
    problem = ""
    try:
        return within(seconds, lambda: _followed(address, allow_private, seconds))
    except UsageError:
        raise
    except TimeoutError:
        problem = f"it did not come within {seconds:g} s"
    except ssl.SSLError as error:
        problem = f"its certificate or encryption is not right ({error.reason or 'SSL'})".lower()
    except OSError as error:
        problem = (error.strerror or type(error).__name__).lower()
    except (http.client.HTTPException, ValueError) as error:
        problem = f"the answer is not HTTP ({type(error).__name__})"
    raise _refused(address, problem)


def _refused(address: str, why: str) -> UsageError:
    return UsageError(
        f"Cannot fetch {address.partition('?')[0]}: {why}; save the picture and name its file, or "
        "pipe it in: `cies search - < picture.jpg`."
    )


def _followed(address: str, allow_private: bool, seconds: float) -> bytes:
    """The answer at an address, or at the address that it redirects to."""
    given = address
    for _ in range(_MOST_REDIRECTS + 1):
        parts = _checked(given, address)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        ip = _public(host, port, allow_private, given)
        connection = _Connection(host, port, ip, parts.scheme == "https", seconds)
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            headers = {"Accept": "image/*", "User-Agent": "cies", "Accept-Encoding": "identity"}
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            if answer.status in (301, 302, 303, 307, 308):
                address = urljoin(address, answer.getheader("Location") or "")
                continue
            return _picture(answer, given)
        finally:
            connection.close()
    raise _refused(given, f"it redirects more than {_MOST_REDIRECTS} times")


def _checked(given: str, address: str) -> SplitResult:
    """The parts of an address that may be asked."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _refused(given, "it is, or redirects to, no web address")
    if parts.username is not None or parts.password is not None:
        raise _refused(given, "it holds a name or password, which is not sent")
    if not address.isascii() or re.search(r"[\x00-\x20\x7f]", address):
        raise _refused(given, "it holds a space, a control character or a letter outside ASCII")
    return parts


def _public(host: str, port: int, allow_private: bool, given: str) -> str:
    """An address of a host, of which all are public.

    The connection is made to this address, so that a second look-up cannot give another one.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for _, _, _, _, where in found:
        ip = ipaddress.ip_address(str(where[0]).partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if (not ip.is_global or ip.is_multicast) and not allow_private:
            raise _refused(
                given, "it is on a private network, which is asked only with --allow-private"
            )
    return str(found[0][4][0])


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked, for the name of its host."""

    def __init__(self, host: str, port: int, ip: str, encrypted: bool, seconds: float):
        super().__init__(host, port, timeout=seconds)
        self._ip, self._encrypted = ip, encrypted

    def connect(self) -> None:
        """Connect to the checked address.

        Raises:
            OSError: if it cannot be reached, or has no right certificate for its name.
        """
        self.sock = socket.create_connection((self._ip, self.port), self.timeout)
        if self._encrypted:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)


def _picture(answer: http.client.HTTPResponse, given: str) -> bytes:
    if answer.status != 200:
        raise _refused(given, f"the server answers {answer.status}")
    kind = (answer.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    if kind and not kind.startswith("image/") and kind not in _UNNAMED:
        raise _refused(given, f"it is no picture but {kind[:60]!r}")
    told = answer.length  # None if the server does not say
    data = b"" if told is not None and told > MAX_BYTES else answer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES or (told is not None and told > MAX_BYTES):
        raise _refused(given, f"it is larger than {MAX_BYTES // 2**20} MB")
    if told is not None and len(data) < told:
        raise _refused(given, "the connection ended before the end of the picture")
    if not data:
        raise _refused(given, "it is empty")
    return data


#: Types that servers give to files of which they know none.
_UNNAMED = ("application/octet-stream", "binary/octet-stream")
