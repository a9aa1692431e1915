"""Answers whose head is known from the one before, on one connection of an upstream that plays."""

from __future__ import annotations

from tests.bridge_house import CHAT, House, scripted
from tests.fakes.scripted_upstream import Move, Play, ScriptedUpstream, plain

FIRST = (plain(b'{"n":1}'),)


async def ask(house: House) -> tuple[int, bytes]:
    answer = await house.web.post("/v1/chat/completions", json=CHAT)
    return answer.status_code, answer.content


def on_one_connection(*plays: Play, wanted: list[tuple[int, bytes]]) -> None:
    async def test(house: House, upstream: ScriptedUpstream) -> None:
        assert [await ask(house) for _ in wanted] == wanted
        assert house.in_flight() == 0

    scripted(test, *plays)


def test_answers_of_any_length_are_passed_on_however_they_are_cut() -> None:
    bodies = (b'{"n":1}', b"", b'{"n":22}', b"a" * 300_000, b'{"n":333}')
    long = plain(bodies[4])
    head, end = long.split(b"\r\n\r\n")
    plays: list[Play] = [(plain(body),) for body in bodies[:4]]
    plays += [(head + b"\r\n\r\n", 0.02, end[:3], 0.02, end[3:]), (head[:9], 0.02, long[9:]), (plain(b"last"),)]
    on_one_connection(*plays, wanted=[(200, body) for body in (*bodies, bodies[4], b"last")])


def test_another_head_is_read_by_the_parser_again() -> None:
    other = b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\n\r\n{}"
    refused = plain(b'{"error":{"message":"no"}}', status=b"400 Bad Request")
    wanted = [(200, b'{"n":1}'), (200, b"{}"), (400, b'{"error":{"message":"no"}}'), (200, b'{"n":1}')]
    on_one_connection(FIRST, (other,), (refused,), FIRST, wanted=wanted)


def test_a_known_head_with_more_than_its_body_is_no_answer() -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        assert await ask(house) == (200, b'{"n":1}')
        status, said = await ask(house)
        assert (status, b"KI824" in said) == (502, True)
        assert await ask(house) == (200, b'{"n":1}')

    surplus = (plain(b'{"n":2}') + b"HTTP/1.1 200 OK\r\n",)
    scripted(test, FIRST, surplus, surplus, surplus, FIRST)


def test_a_known_head_whose_body_breaks_off_is_cut() -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        assert await ask(house) == (200, b'{"n":1}')
        answer = await house.web.post("/v1/chat/completions", json=CHAT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "KI823")

    broken = (plain(b'{"n":2}')[:-7], Move.CLOSE)
    scripted(test, FIRST, broken, broken, broken)


def test_an_answer_that_closes_its_connection_is_not_remembered() -> None:
    closing = (plain(b"{}", head=b"Connection: close\r\n"), Move.CLOSE)
    on_one_connection(closing, closing, FIRST, wanted=[(200, b"{}"), (200, b"{}"), (200, b'{"n":1}')])
