"""One http(s) GET that cannot be led astray: every address on its way is resolved, checked and pinned before use.

The check of the address and the connection use the same resolved number, so a name server that changes its answer in
between gains nothing. One deadline and one size hold for the whole chain of redirects. Proxies are not used.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import NamedTuple
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from infra.errors import InputError

AGENT = "Sluice"
MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PIECE = 65_536
_SAFE = "/%:@!$&'()*+,;=~-._?[]"
"""Characters of paths and queries that are sent as they are."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Answer(NamedTuple):
    """What the last server of the chain sent: `place` is its address, header names are in lower case."""

    place: str
    status: int
    headers: dict[str, str]
    body: bytes


class Limits(NamedTuple):
    """What one fetch may take: `seconds` and `size` (bytes); `private` hosts may have any address."""

    seconds: float
    size: int
    private: frozenset[str] = frozenset()


def fetch(
    url: str, limits: Limits, headers: Callable[[str], Mapping[str, str]], allowed: Callable[[str], None]
) -> Answer:
    """GET `url` and follow up to 5 redirects; `headers(place)` are sent there, `allowed(place)` may raise first.

    Raises: InputError for a wrong address or scheme, an address that is not public, more redirects, bytes or seconds
    than allowed, and for a server that cannot be reached or breaks the protocol. Statuses are the caller's to judge.
    """
    end = time.monotonic() + limits.seconds
    place = url
    for _ in range(MAX_REDIRECTS + 1):
        parts = checked(place)
        allowed(place)
        answer = _get(place, parts, limits, end, headers(place))
        if answer.status not in _REDIRECTS or "location" not in answer.headers:
            return answer
        # header bytes arrive as latin-1; addresses are written in UTF-8
        target = answer.headers["location"].encode("latin-1").decode("utf-8", "replace")
        place = urljoin(place, target.strip().replace(" ", "%20")).partition("#")[0]
    raise InputError(f"more than {MAX_REDIRECTS} redirects: list the address that they lead to")


def checked(url: str) -> SplitResult:
    """The parts of an address. Raises InputError unless it is plain http or https."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{url}: no web address ({error})") from error
    if parts.scheme not in ("http", "https"):
        raise InputError(f"{url}: only http and https are fetched")
    if not parts.hostname or port == 0 or any(character.isspace() for character in url):
        raise InputError(f"{url}: no web address: write it as https://host/path, spaces as %20")
    if parts.username is not None or parts.password is not None:
        raise InputError(f"{parts.scheme}://{parts.hostname}: leave user and password out of the address")
    if parts.fragment:
        raise InputError(f"{url}: leave out the part from # on")
    return parts


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet, looking through IPv4 that is wrapped in IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    kept = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
    return address.is_global and not kept and not address.is_link_local


def resolve(host: str, port: int) -> list[str]:
    """Numeric addresses of a host, in the system's order."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def _pinned(parts: SplitResult, port: int, private: frozenset[str]) -> list[str]:
    """The addresses to connect to. One that is not public refuses the host, whatever the others are."""
    host = parts.hostname
    assert host is not None, "checked before"
    try:
        addresses = resolve(host.encode("idna").decode(), port)
    except (OSError, UnicodeError) as error:
        raise InputError(f"{host}: no such host") from error
    if host not in private:
        for address in addresses:
            if not is_public(ipaddress.ip_address(address)):
                raise InputError(
                    f"{host} has the address {address}, which is not public: list the host under "
                    "corpus.web_limits.allow_private if that is meant"
                )
    return addresses


def _get(place: str, parts: SplitResult, limits: Limits, end: float, headers: Mapping[str, str]) -> Answer:
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    addresses = _pinned(parts, port, limits.private)
    overdue = threading.Event()
    try:
        found = _within(_connected(addresses, port, end), parts, port, limits.size, headers, end, overdue)
    except (OSError, http.client.HTTPException) as error:
        if not overdue.is_set() and not isinstance(error, TimeoutError):
            raise InputError(f"{parts.hostname}: cannot be fetched ({_named(error)})") from error
        overdue.set()
    if overdue.is_set():
        raise InputError(f"took longer than {limits.seconds:g} s")
    return found._replace(place=place)


def _within(
    raw: socket.socket, parts: SplitResult, port: int, size: int, headers: Mapping[str, str], end: float,
    overdue: threading.Event,
) -> Answer:  # fmt: skip
    """The answer, or a connection that a timer cuts: `overdue` says that it did, whatever was read by then."""
    with raw, raw.dup() as spare:
        watch = threading.Timer(max(0.0, end - time.monotonic()), _cut, (spare, overdue))
        watch.start()
        try:
            return _ask(raw, parts, port, size, headers)
        finally:
            watch.cancel()
            watch.join()


def _cut(connection: socket.socket, overdue: threading.Event) -> None:
    """End a connection from outside, wherever its reader waits: in the handshake, a header or the body."""
    overdue.set()
    with suppress(OSError):  # the other side was faster
        connection.shutdown(socket.SHUT_RDWR)


def _connected(addresses: list[str], port: int, end: float) -> socket.socket:
    """A connection to the first address that answers."""
    failure: OSError = TimeoutError()
    for address in addresses:
        remaining = end - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        try:
            connection = socket.create_connection((address, port), timeout=remaining)
        except OSError as error:
            failure = error
            continue
        connection.settimeout(None)  # from here on the timer ends it
        return connection
    raise failure


def _ask(raw: socket.socket, parts: SplitResult, port: int, size: int, headers: Mapping[str, str]) -> Answer:
    """Send the request and read the answer up to `size` bytes. Raises InputError for more."""
    host = (parts.hostname or "").encode("idna").decode()
    connection = http.client.HTTPConnection(host, port)
    connection.sock = raw
    if parts.scheme == "https":
        connection.default_port = http.client.HTTPS_PORT
        connection.sock = ssl.create_default_context().wrap_socket(raw, server_hostname=host)
    path = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
    sent = {"User-Agent": AGENT, "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close", **headers}
    with closing(connection):
        connection.request("GET", path, headers=sent)
        return _read(connection.getresponse(), size)


def _read(answer: http.client.HTTPResponse, size: int) -> Answer:
    with answer as response:
        found = {name.lower(): value for name, value in response.getheaders()}
        stated = response.length
        if stated is not None and stated > size:
            raise InputError(f"{stated} bytes are more than the limit of {size}: raise corpus.max_bytes")
        body = bytearray()
        while piece := response.read1(_PIECE):
            body += piece
            if len(body) > size:
                raise InputError(f"more than the limit of {size} bytes: raise corpus.max_bytes")
        if stated is not None and len(body) < stated:
            raise http.client.IncompleteRead(bytes(body), stated - len(body))
        return Answer("", response.status, found, bytes(body))


def _named(error: Exception) -> str:
    """What went wrong in words that stay the same from run to run."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate: {error.verify_message}"
    return type(error).__name__
