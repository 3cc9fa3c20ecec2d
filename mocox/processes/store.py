"""The store through which the processes of a run meet and watch each other: its address, and signed entries.

Whoever reaches the port of a ``TCPStore`` may list, read, change and delete everything in it. So the store of one
machine listens on one address; and what a process acts on carries a signature, whose key comes to the processes
through their environment and is in neither the store nor a command line.
"""

import datetime
import errno
import hashlib
import hmac
import ipaddress
import os
import secrets
import socket

import torch.distributed as torch_dist

TOKEN = 'MOCOX_STORE_TOKEN'  # of the environment; on several machines the same on each


def free_port() -> int:
    """A free port of this machine."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def make_token() -> None:
    """Put a random token into the environment of the processes to be started, unless there is one."""
    os.environ.setdefault(TOKEN, secrets.token_hex(16))


def serve(address: str, port: int, one_machine: bool, timeout_s: float) -> torch_dist.TCPStore:
    """Open the store; stores that this process opens later with ``multi_tenant`` at that port are this one.

    It listens at ``address`` alone where all processes are on this machine, or where ``address`` is a number of this
    machine. A name may stand for another address on the other machines: then it listens at all, as torch does.

    Raises:
        ConnectionError: The port is taken.
    """
    listener = _listen(address, port) if one_machine or _is_number(address) else None
    return torch_dist.TCPStore(
        address,
        port,
        is_master=True,
        timeout=datetime.timedelta(seconds=timeout_s),
        wait_for_workers=False,
        multi_tenant=True,
        master_listen_fd=listener.detach() if listener else None,
    )


def _is_number(address: str) -> bool:
    try:
        return bool(ipaddress.ip_address(address))
    except ValueError:
        return False


def _listen(address: str, port: int) -> socket.socket | None:
    """None where the address belongs not to this machine but to a proxy."""
    family, _, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(4096)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            return None
        raise ConnectionError(f'cannot listen at {address}:{port} ({error.strerror}): set PORT to a free one') from None
    return listener


def branch(store: torch_dist.Store, name: str) -> torch_dist.Store:
    """A part of the store for one purpose, one start and one token: ``torchrun --max-restarts`` may keep the store."""
    start = os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)
    return torch_dist.PrefixStore(f'mocox/{_sign(f"{start}/{name}".encode())[:16]}/{name}', store)


def _sign(message: bytes) -> str:
    return hmac.new(os.environ.get(TOKEN, '').encode(), message, hashlib.sha256).hexdigest()


class SignedStore:
    """Texts in a store, each with the signature of its name and content.

    Args:
        store: The store; the prefix is part of the signed text.
        prefix: Prefix of the keys.
    """

    def __init__(self, store: torch_dist.Store, prefix: str) -> None:
        self.store, self.prefix = branch(store, prefix), prefix

    def set(self, key: str, text: str) -> None:
        """Write a text."""
        self.store.set(key, f'{self._sign(key, text)} {text}')

    def get(self, key: str) -> str:
        """Read a text, or '' where its signature is not ours."""
        return self.multi_get([key])[0]

    def holds(self, keys: list[str]) -> bool:
        """True if all these texts are present with our signature; does not wait for them."""
        return self.store.check(keys) and all(self.multi_get(keys))

    def multi_get(self, keys: list[str]) -> list[str]:
        """Read several texts, '' for those whose signature is not ours."""
        return [self._check(key, value) for key, value in zip(keys, self.store.multi_get(keys), strict=True)]

    def _sign(self, key: str, text: str) -> str:
        start = os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)
        return _sign(f'{start}/{self.prefix}/{key} {text}'.encode())

    def _check(self, key: str, value: bytes) -> str:
        signature, _, text = value.decode(errors='replace').partition(' ')
        return text if hmac.compare_digest(signature.encode(), self._sign(key, text).encode()) else ''
