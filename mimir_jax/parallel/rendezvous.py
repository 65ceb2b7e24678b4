# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Start-up check: the processes of a run compare what they will run before JAX starts.

JAX's own start-up compares nothing and aborts with a stack trace if a process is missing. Here
every process sends its facts to process 0 over TCP and receives one verdict:

    process i -> process 0   {"process": i, "host": name, "facts": {...}}
    process 0 -> process i   {"error": one line, or null}

JAX's coordinator binds the same port afterwards, so a firewall needs no other opening.
"""

import contextlib
import json
import select
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

from mimir_jax.errors import InputError

_HELLO_SECONDS = 5.0  # a silent connection is not one of our processes
_MOST_BYTES = 16 << 20
_RETRY_SECONDS = 0.2

Facts = Mapping[str, Any]


def handshake(coordinator: str, count: int, index: int, facts: Facts, *, seconds: float) -> None:
    """Returns once all `count` processes have reported the same facts.

    Args:
        coordinator: HOST:PORT of process 0.
        count: Number of processes.
        index: Which one this is, from 0.
        facts: Nested mapping of JSON values that must be the same everywhere.
        seconds: How long to wait for the others.

    Raises:
        ValueError: with the same line on every process, if one is missing or differs.
    """
    host, port = split_address(coordinator)
    facts = json.loads(json.dumps({"num_processes": count, **facts}))  # as the others will see them
    hello_message = {"process": index, "host": socket.gethostname(), "facts": facts}
    if index == 0:
        verdict = _host(port, count, hello_message, seconds)
    else:
        verdict = _visit(host, port, hello_message, seconds)
    if verdict is not None:
        raise InputError(verdict)


def split_address(coordinator: str) -> tuple[str, int]:
    """Splits HOST:PORT.

    Raises:
        ValueError: if it is not that.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"--coordinator must be HOST:PORT of process 0, got {coordinator!r}")
    return host.strip("[]"), int(port)


def _host(port: int, count: int, own: Mapping[str, Any], seconds: float) -> str | None:
    """Receives the facts of every other process, sends each the verdict and returns it."""
    deadline = time.monotonic() + seconds
    peers: dict[int, tuple[socket.socket, Mapping[str, Any]]] = {}
    awaited = set(range(1, count))
    verdict = None
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listen(port))
        while not awaited <= peers.keys():
            connection = _accept(server, deadline)
            if connection is None:
                verdict = _missing(sorted(awaited - peers.keys()), count, seconds)
                break
            stack.enter_context(connection)
            connection.settimeout(_HELLO_SECONDS)
            hello_message = _read(connection, "process", "host", "facts")
            if hello_message is None:
                continue
            earlier = peers.get(hello_message["process"])
            if hello_message["process"] == 0 or (
                earlier is not None and not _disconnected(earlier[0])
            ):
                hosts = (own if earlier is None else earlier[1])["host"], hello_message["host"]
                verdict = (
                    f"process ids must differ, got {hello_message['process']} on {hosts[0]} and on "
                    f"{hosts[1]}; give each process its own --process_id"
                )
                _send(connection, {"error": verdict})
                break
            peers[hello_message["process"]] = connection, hello_message
        verdict = verdict or _disagreement(
            own, [hello_message for _, hello_message in peers.values()]
        )
        for connection, _ in peers.values():
            _send(connection, {"error": verdict})
        for connection, _ in peers.values():
            _read(connection)  # the peer hangs up first, so that the port is free at once
    return verdict


def _visit(host: str, port: int, hello_message: Mapping[str, Any], seconds: float) -> str | None:
    """Sends the facts of this process to process 0 and returns its verdict."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(OSError), _connect(host, port, left) as to_first:
            _send(to_first, hello_message)
            to_first.settimeout(seconds + _HELLO_SECONDS)  # process 0 may have started later
            if (answer := _read(to_first, "error")) is not None:
                return answer["error"]
        time.sleep(_RETRY_SECONDS)
    return (
        f"process 0 must be at {host}:{port}, process {hello_message['process']} found none within "
        f"{seconds:g} s; start it there, open the port, or raise --join_seconds"
    )


def _listen(port: int) -> socket.socket:
    dual = socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            ("", port),
            family=socket.AF_INET6 if dual else socket.AF_INET,
            dualstack_ipv6=dual,
            backlog=1024,
        )
    except OSError as error:
        raise InputError(
            f"--coordinator must name a free port of the host of process 0, got {port}: "
            f"{error.strerror or error}; choose another"
        ) from None


def _connect(host: str, port: int, seconds: float) -> socket.socket:
    return socket.create_connection((host, port), timeout=min(seconds, _HELLO_SECONDS))


def _accept(server: socket.socket, deadline: float) -> socket.socket | None:
    server.settimeout(max(deadline - time.monotonic(), 1e-3))
    try:
        return server.accept()[0]
    except TimeoutError:
        return None


def _send(connection: socket.socket, content: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # a process that hung up needs no answer
        connection.sendall(json.dumps(content).encode() + b"\n")


def _read(connection: socket.socket, *keys: str) -> dict[str, Any] | None:
    """Reads one message that holds `keys`; None for anything else."""
    try:
        with connection.makefile("rb") as file:
            content = json.loads(file.readline(_MOST_BYTES))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.keys() >= set(keys) else None


def _disconnected(connection: socket.socket) -> bool:
    """Whether the other end hung up, as a restarted process has."""
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""


def _missing(missing: list[int], count: int, seconds: float) -> str:
    names = ", ".join(map(str, missing[:20])) + (" ..." if len(missing) > 20 else "")
    return (
        f"all {count} processes must come within {seconds:g} s, process 0 misses {names}; start "
        "them with the same --coordinator and --num_processes, or raise --join_seconds"
    )


def _disagreement(own: Mapping[str, Any], others: list[Mapping[str, Any]]) -> str | None:
    """Returns the line for the first process whose facts are not those of process 0."""
    ours = dict(_leaves(own["facts"]))
    for hello_message in sorted(others, key=lambda hello_message: hello_message["process"]):
        theirs = dict(_leaves(hello_message["facts"]))
        names = [n for n in {**ours, **theirs} if ours.get(n, "absent") != theirs.get(n, "absent")]
        if names:
            name, process = names[0], hello_message["process"]
            more = f" ({len(names) - 1} more differ)" if len(names) > 1 else ""
            return (
                f"processes must run the same: {name} is {ours.get(name, 'absent')!r} on process 0 "
                f"and {theirs.get(name, 'absent')!r} on process {process} "
                f"({hello_message['host']}){more}; start all with one command, code and environment"
            )
    return None


def _leaves(facts: Facts, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
