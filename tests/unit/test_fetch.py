"""A fetch goes only where it may, takes no more than it may, and never ends in anything but an answer or a reason."""

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from indexes.loaders import fetch as fetching
from indexes.loaders.fetch import Answer, Limits, fetch, is_public
from infra.errors import InputError
from tests.unit.web_site import Reply, Site, running

HERE = frozenset({"127.0.0.1"})


@pytest.fixture
def site() -> Iterator[Site]:
    with running() as started:
        yield started


def got(url: str, seconds: float = 30, size: int = 1000, private: frozenset[str] = HERE) -> Answer:
    return fetch(url, Limits(seconds, size, private), lambda _: {}, lambda _: None)


def redirect(target: str, status: int = 302) -> Reply:
    return Reply(status=status, headers=(("Location", target),))


def test_an_answer_has_status_headers_and_body(site: Site) -> None:
    site.pages["/a%20b?q=%C3%A4&x=1"] = Reply(b"words", "text/plain", headers=(("ETag", '"1"'),))
    answer = got(site.at("/a%20b?q=ä&x=1"))
    assert (answer.status, answer.body, answer.headers["etag"]) == (200, b"words", '"1"')
    assert site.asked[0][1]["Host"] == f"127.0.0.1:{site.port}"
    assert site.asked[0][1]["User-Agent"] == "Sluice"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://127.0.0.1/a", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("docs/page.html", "only http and https"),
        ("http:///a", "no web address"),
        ("http://127.0.0.1:99999/", "no web address"),
        ("http://127.0.0.1/a b", "spaces as %20"),
        ("http://anna:secret@127.0.0.1/", "leave user and password out"),
        ("http://127.0.0.1/a#part", "leave out the part from #"),
        ("http://nowhere.invalid/", "no such host"),
        (f"http://{'a' * 70}.example/", "no such host"),
    ],
)
def test_addresses_that_are_none_are_refused(url: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        got(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "0", "10.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]", "2130706433"],
)
def test_hosts_that_are_not_public_are_refused(host: str, site: Site) -> None:
    with pytest.raises(InputError, match=r"not public: list the host under corpus\.web_limits\.allow_private"):
        got(site.at("/", host), private=frozenset())
    assert site.asked == []


@pytest.mark.parametrize("target", ["http://localhost:{port}/a", "http://10.1.2.3/", "//169.254.169.254/latest"])
def test_a_redirect_to_a_private_address_is_refused(site: Site, target: str) -> None:
    site.pages["/start"] = redirect(target.format(port=site.port))
    with pytest.raises(InputError, match="not public"):
        got(site.at("/start"))
    assert site.paths == ["/start"]


@pytest.mark.parametrize(
    ("target", "reason"), [("file:///etc/passwd", "only http"), ("http://a:b@127.0.0.1/", "leave user")]
)
def test_a_redirect_to_another_scheme_or_with_a_password_is_refused(site: Site, target: str, reason: str) -> None:
    site.pages["/start"] = redirect(target)
    with pytest.raises(InputError, match=reason):
        got(site.at("/start"))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_five_redirects_are_followed_and_the_sixth_is_not(site: Site, status: int) -> None:
    for number in range(6):
        site.pages[f"/{number}"] = redirect(f"/{number + 1}#part", status)
    site.pages["/6"] = Reply(b"there")
    answer = got(site.at("/1"))
    assert (answer.body, answer.place) == (b"there", site.at("/6"))
    with pytest.raises(InputError, match="more than 5 redirects"):
        got(site.at("/0"))


def test_every_place_on_the_way_is_asked_for_and_gets_its_own_headers(site: Site) -> None:
    site.pages["/a"] = redirect("/ü b")
    site.pages["/%C3%BC%20b"] = Reply(b"x")
    places: list[str] = []
    fetch(site.at("/a"), Limits(30, 10, HERE), lambda place: {"X-Place": str(place.count("/"))}, places.append)
    assert len(places) == 2
    assert [headers["X-Place"] for _, headers in site.asked] == ["3", "3"]


def test_the_address_that_was_checked_is_the_one_that_is_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pages["/a"] = Reply(b"x")
    monkeypatch.setattr(fetching, "resolve", lambda host, port: ["127.0.0.1"])
    answer = got(site.at("/a", "docs.invalid"), private=frozenset({"docs.invalid"}))
    assert answer.body == b"x"
    assert site.asked[0][1]["Host"] == f"docs.invalid:{site.port}"


def test_one_private_address_among_public_ones_refuses_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "resolve", lambda host, port: ["93.184.215.14", "10.0.0.7"])
    with pytest.raises(InputError, match=r"docs\.invalid has the address 10\.0\.0\.7"):
        got("http://docs.invalid/")


@pytest.mark.parametrize("stated", [True, False])
def test_more_bytes_than_allowed_are_refused(site: Site, stated: bool) -> None:
    site.pages["/fits"] = Reply(b"x" * 1000)
    site.pages["/big"] = Reply(b"x" * 1001, slowly="" if stated else "body")
    assert len(got(site.at("/fits")).body) == 1000
    with pytest.raises(InputError, match="limit of 1000"):
        got(site.at("/big"))


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_server_that_drips_is_cut_off(site: Site, part: str) -> None:
    site.pages["/slow"] = Reply(b"x", slowly=part)
    with pytest.raises(InputError, match=r"took longer than 0\.5 s"):
        got(site.at("/slow"), seconds=0.5, size=10**6)


def test_a_body_that_ends_early_is_no_document(site: Site) -> None:
    site.pages["/cut"] = Reply(b"half", headers=(("Content-Length", "8"),))
    with pytest.raises(InputError, match=r"cannot be fetched \(IncompleteRead\)"):
        got(site.at("/cut"))


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(InputError, match=r"127\.0\.0\.1: cannot be fetched \(ConnectionRefusedError\)"):
            got(f"http://127.0.0.1:{taken.getsockname()[1]}/")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key with a certificate for docs.invalid that nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "docs.invalid")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("docs.invalid")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_https_is_checked_against_the_name_of_the_host(
    site: Site, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    site.server.socket = context.wrap_socket(site.server.socket, server_side=True)
    site.pages["/a"] = Reply(b"secure")
    monkeypatch.setattr(fetching, "resolve", lambda host, port: ["127.0.0.1"])
    private = frozenset({"docs.invalid", "other.invalid"})
    with pytest.raises(InputError, match="its certificate: self-signed"):
        got(f"https://docs.invalid:{site.port}/a", private=private)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert got(f"https://docs.invalid:{site.port}/a", private=private).body == b"secure"
    with pytest.raises(InputError, match="its certificate: Hostname mismatch"):
        got(f"https://other.invalid:{site.port}/a", private=private)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_an_ipv6_wrapping_is_as_public_as_itself(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    wrappings = [0xFFFF << 32 | number, 0x2002 << 112 | number << 80, 0x64FF9B << 96 | number]
    assert {is_public(ipaddress.IPv6Address(value)) for value in wrappings} == {is_public(address)}


NETWORKS = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
    "224.0.0.0/4", "240.0.0.0/4", "::/128", "::1/128", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
]  # fmt: skip


@given(st.sampled_from(NETWORKS).flatmap(lambda network: st.ip_addresses(network=network)))
def test_addresses_of_special_networks_are_not_public(address: ipaddress.IPv4Address) -> None:
    assert not is_public(address)


def test_ordinary_addresses_are_public() -> None:
    assert all(is_public(ipaddress.ip_address(text)) for text in ("8.8.8.8", "93.184.215.14", "2606:4700::1111"))
