# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import concurrent.futures
import socket

import pytest

from mimir_jax.parallel import rendezvous


def free_port():
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def meet(arrivals, *, seconds=20.0):
    """Has processes meet, a thread each; returns what each got: None, or its line."""
    coordinator = f"127.0.0.1:{free_port()}"

    def one(arrival):
        index, count, facts = arrival
        try:
            return rendezvous.handshake(coordinator, count, index, facts, seconds=seconds)
        except ValueError as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(len(arrivals)) as threads:
        return list(threads.map(one, arrivals))


def test_processes_with_the_same_facts_go_on():
    facts = {"config": {"seed": 0, "task": {"kind": "vae"}}}
    assert meet([(2, 3, facts), (0, 3, facts), (1, 3, facts)]) == [None] * 3


def test_all_are_told_which_process_differs_and_in_what():
    mine = {"code": {"a.py": "x"}, "config": {"seed": 0, "task": {"kind": "vae"}}}
    other = {"code": {"a.py": "x"}, "config": {"seed": 3, "task": {"kind": "dit"}}}
    lines = meet([(0, 3, mine), (1, 3, mine), (2, 3, other)])
    assert len(set(lines)) == 1
    assert "config.seed is 0 on process 0 and 3 on process 2" in lines[0]
    assert "(1 more differ)" in lines[0]


def test_all_are_told_that_their_numbers_differ():
    lines = meet([(0, 2, {}), (1, 3, {})])
    assert len(set(lines)) == 1
    assert "num_processes is 2 on process 0 and 3 on process 1" in lines[0]


def test_all_are_told_who_is_missing():
    lines = meet([(0, 5, {}), (2, 5, {})], seconds=1.0)
    assert len(set(lines)) == 1
    assert "all 5 processes must come within 1 s, process 0 misses 1, 3, 4;" in lines[0]


def test_two_processes_of_one_number_are_refused():
    lines = meet([(0, 3, {}), (1, 3, {}), (1, 3, {})])
    assert len(set(lines)) == 1 and "process ids must differ, got 1 on" in lines[0]


def test_process_0_that_never_comes_is_named():
    (line,) = meet([(1, 2, {})], seconds=0.5)
    assert "process 0 must be at 127.0.0.1:" in line and "found none within 0.5 s" in line


def test_taken_port_is_refused():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ValueError, match=f"must name a free port .* got {port}"):
            rendezvous.handshake(f"localhost:{port}", 2, 0, {}, seconds=1.0)


@pytest.mark.parametrize("address", ["here", "here:", ":80", "here:0", "here:99999", "here:x"])
def test_address_must_be_host_and_port(address):
    with pytest.raises(ValueError, match="--coordinator must be HOST:PORT"):
        rendezvous.split_address(address)


def test_stranger_on_the_port_is_ignored():
    port = free_port()
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        address = f"127.0.0.1:{port}"
        first = threads.submit(rendezvous.handshake, address, 2, 0, {}, seconds=20.0)
        while not first.done():
            try:
                with socket.create_connection(("127.0.0.1", port)) as stranger:
                    stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
                break
            except ConnectionRefusedError:
                continue
        second = threads.submit(rendezvous.handshake, address, 2, 1, {}, seconds=20.0)
        assert first.result() is None and second.result() is None
