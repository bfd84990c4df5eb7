"""The one door from other machines to this server: nginx, and the configuration that we write for it.

Flower serves three APIs on one port. Cameras need the Fleet API, which takes registered keys only; the Runtime and
Control APIs answer whoever reaches them. So the SuperLink listens on loopback, and nginx passes ``/v1/fleet/`` and
nothing else of it; ``/v1/enrol/`` goes to the fleet page's process. What is passed on is the path as nginx has
normalised and compared it, so that no spelling of another path slips through.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import shutil
import string
from pathlib import Path

from appliance.errors import ConfigError
from appliance.files import write_atomically
from appliance.ports import free_port
from server.certificates import check_certificate
from server.config import ServerSettings
from server.paths import ServerPaths

MAX_BODY_MIB = 64  # Flower sends arrays in pieces of 5 MiB; a message's own envelope is small

_SYSLOG = Path("/dev/log")

_MAIN = string.Template("""\
# Written by `sitecam-server proxy` at every start: changes here are lost.
$user
daemon off;
worker_processes auto;
worker_rlimit_nofile 8192;
pid "$folder/nginx.pid";
error_log stderr info;

events {
    worker_connections 4096;
}

http {
    server_tokens off;
    default_type application/octet-stream;

    client_body_temp_path "$folder/body";
    proxy_temp_path "$folder/proxy";
    fastcgi_temp_path "$folder/fastcgi";
    uwsgi_temp_path "$folder/uwsgi";
    scgi_temp_path "$folder/scgi";

    ssl_certificate "$certificate";
    ssl_certificate_key "$key";
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:2m;
    ssl_session_tickets off;

    client_header_timeout 15s;
    client_body_timeout 60s;
    send_timeout 60s;
    keepalive_timeout 75s;  # SuperNodes ask every 3 s on one connection

    # Who was refused, and where they wanted to go.
    map $$status $$refused {
        ~^[45] 1;
        default 0;
    }
    log_format refused '$$time_iso8601 $$remote_addr $$status "$$request" $$ssl_protocol';
    access_log $log refused if=$$refused;

    # uvicorn closes an idle connection after 5 s; nginx must be the first to let go of it.
    upstream superlink {
        server $superlink;
        keepalive 32;
        keepalive_timeout 4s;
    }
    upstream page {
        server $page;
        keepalive 8;
        keepalive_timeout 4s;
    }

    proxy_http_version 1.1;
    proxy_connect_timeout 5s;
    proxy_read_timeout 60s;  # Flower's own clients give up after 30 s
    proxy_send_timeout 60s;
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate "$authority";
    proxy_ssl_name localhost;  # stands in the server's certificate beside its name
    proxy_ssl_protocols TLSv1.2 TLSv1.3;
    proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $$remote_addr;
    proxy_set_header X-Forwarded-Proto https;
    proxy_set_header Host $$http_host;

    limit_req_zone $$binary_remote_addr zone=ask:1m rate=30r/m;
    limit_req_zone $$binary_remote_addr zone=poll:1m rate=10r/s;
    limit_req_status 429;
$servers}
""")

_CAMERAS = string.Template("""
    # For cameras.
    server {
$listen
        location /v1/fleet/ {
            client_max_body_size ${mib}m;
            proxy_pass https://superlink/v1/fleet/;
        }
        location /v1/enrol/ {
            client_max_body_size 16k;
            limit_req zone=poll burst=50 nodelay;
            proxy_pass https://page/v1/enrol/;
        }
        location = /v1/enrol/hello {
            client_max_body_size 16k;
            limit_req zone=ask burst=20 nodelay;
            proxy_pass https://page/v1/enrol/hello;
        }
        location / {
            return 404;
        }
    }
""")

_PEOPLE = string.Template("""
    # For people.
    server {
$listen
        location /v1/ {
            return 404;
        }
        location / {
            client_max_body_size 1m;
            proxy_buffering off;  # events come one by one
            proxy_read_timeout 1h;
            proxy_pass https://page;
        }
    }
""")


def configuration(settings: ServerSettings) -> str:
    """The nginx.conf for these settings, for the nginx of Debian 12 and 13.

    Raises:
        ConfigError: A setting that can't be used.
    """
    paths = ServerPaths(settings.state_dir)
    _check(settings)
    listen = settings.proxy.listen
    servers = _CAMERAS.substitute(listen=_listens(listen, settings.proxy.port), mib=MAX_BODY_MIB)
    if settings.proxy.page_port:
        servers += _PEOPLE.substitute(listen=_listens(listen, settings.proxy.page_port))
    folder = _quotable(folder_of(settings))
    return _MAIN.substitute(
        user=_user(paths),
        folder=folder,
        certificate=_quotable(paths.tls_certificate),
        key=_quotable(paths.tls_key),
        authority=_quotable(paths.ca_certificate),
        log=f"syslog:server=unix:{_SYSLOG},tag=sitecam_proxy" if _SYSLOG.exists() else f'"{folder}/refused.log"',
        superlink=f"{_bracketed(settings.superlink.listen)}:{settings.superlink.port}",
        page=f"{_bracketed(settings.page.listen)}:{settings.page.port}",
        servers=servers,
    )


def folder_of(settings: ServerSettings) -> Path:
    """Where nginx has its configuration and everything that it writes."""
    return settings.state_dir / "nginx"


def prepare(settings: ServerSettings) -> list[str]:
    """Write the configuration; return the command that runs nginx in the foreground.

    Raises:
        ConfigError: A setting that can't be used, or nginx isn't installed.
        PortTakenError: Another program listens there.
        CertificateError: The server's TLS files can't be used.
    """
    text = configuration(settings)
    check_certificate(ServerPaths(settings.state_dir))
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise ConfigError(
            "nginx isn't installed", means="Other machines can't reach this server", do="sudo apt install nginx-light"
        )
    for name in ("port", "page_port"):
        port = getattr(settings.proxy, name)
        for host in _addresses(settings.proxy.listen) if port else ():
            free_port(
                host,
                port,
                means="Other machines can't reach this server; perhaps the proxy is running already",
                do=f"Stop the other program, or set another proxy.{name} in sitecam-server.toml",
            )
    folder = folder_of(settings)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(folder / "nginx.conf", text.encode())
    return [program, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def _check(settings: ServerSettings) -> None:
    proxy = settings.proxy
    if not proxy.port:
        raise ConfigError(
            "proxy.port is not set",
            means="Only cameras on this machine can reach the server",
            do="Set [proxy] port in sitecam-server.toml, to 9444 for example",
        )
    ports = {
        "proxy.port": proxy.port,
        "proxy.page_port": proxy.page_port,
        "superlink.port": settings.superlink.port,
        "page.port": settings.page.port,
    }
    for name, port in ports.items():
        same = [other for other, number in ports.items() if number == port and other != name and port]
        if same:
            raise ConfigError(f"{name} and {same[0]} are both {port}", do="Give each a port of its own")


def _listens(listen: tuple[str, ...], port: int) -> str:
    return "\n".join(f"        listen {_bracketed(host)}:{port} ssl;" for host in _addresses(listen))


def _addresses(listen: tuple[str, ...]) -> list[str]:
    """Where to listen, without IPv6 on a kernel that has none: nginx would not start."""
    found = []
    for text in listen:
        try:
            address = ipaddress.ip_address(text.strip("[]"))
        except ValueError as error:
            raise ConfigError(f"proxy.listen: {text!r} is not an address", do='Write it like "0.0.0.0"') from error
        if address.version == 4 or Path("/proc/net/if_inet6").exists():
            found.append(str(address))
    return found


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _quotable(path: Path) -> str:
    text = str(path.absolute())
    if any(symbol in text for symbol in '"$\\\n'):
        raise ConfigError(
            f"nginx can't use the path {text!r}", do="Choose a state_dir without quotes, dollars and backslashes"
        )
    return text


def _user(paths: ServerPaths) -> str:
    """As root, nginx's workers get the rights of whoever owns the state folder; else they have ours anyway."""
    if os.geteuid() != 0:
        return "# run by an ordinary user"
    owner = paths.root.stat() if paths.root.exists() else Path("/").stat()
    return f"user {pwd.getpwuid(owner.st_uid).pw_name};"
