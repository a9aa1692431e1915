"""Requests that must be refused, and with which status: one list for the reader and for the socket."""

from __future__ import annotations

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
GOOD_BODY = b'{"messages":[{"role":"user","content":"hi"}]}'


def _post(*headers: bytes, body: bytes = GOOD_BODY, host: bytes = b"Host: localhost\r\n") -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"POST /v1/chat/completions HTTP/1.1\r\n" + host + lines + b"\r\n" + body


def _get(
    target: bytes = b"/v1/models", *, version: bytes = b"HTTP/1.1", headers: bytes = b"Host: localhost\r\n"
) -> bytes:
    return b"GET %b %b\r\n%b\r\n" % (target, version, headers)


FRAMING: dict[str, tuple[bytes, int]] = {
    "length and chunked": (_post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "chunked and length": (_post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), 400),
    "two lengths": (_post(b"Content-Length: 2", b"Content-Length: 3", body=b"{}"), 400),
    "two equal lengths": (_post(b"Content-Length: 2", b"Content-Length: 2", body=b"{}"), 400),
    "list of lengths": (_post(b"Content-Length: 2, 2", body=b"{}"), 400),
    "signed length": (_post(b"Content-Length: +2", body=b"{}"), 400),
    "negative length": (_post(b"Content-Length: -2", body=b"{}"), 400),
    "hexadecimal length": (_post(b"Content-Length: 0x2", body=b"{}"), 400),
    "empty length": (_post(b"Content-Length: ", body=b"{}"), 400),
    "endless length": (_post(b"Content-Length: 99999999999999999999999", body=b"{}"), 400),
    "length above the limit": (_post(b"Content-Length: 33554433", body=b""), 413),
    "gzip transfer": (_post(b"Transfer-Encoding: gzip", body=b""), 501),
    "gzip and chunked": (_post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
    "chunked and gzip": (_post(b"Transfer-Encoding: chunked, gzip", body=b""), 400),
    "chunked twice": (_post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "nearly chunked": (_post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 501),
    "chunked behind a control character": (_post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), 400),
    "chunk size not a number": (_post(b"Transfer-Encoding: chunked", body=b"zz\r\n"), 400),
    "negative chunk": (_post(b"Transfer-Encoding: chunked", body=b"-1\r\n"), 400),
    "chunk with 0x": (_post(b"Transfer-Encoding: chunked", body=b"0x2\r\n{}\r\n0\r\n\r\n"), 400),
    "endless chunk size": (_post(b"Transfer-Encoding: chunked", body=b"fffffffffffffffff\r\n"), 400),
    "chunk longer than its size": (_post(b"Transfer-Encoding: chunked", body=b"1\r\n{}\r\n0\r\n\r\n"), 400),
    "chunk ended by LF": (_post(b"Transfer-Encoding: chunked", body=b"2\n{}\r\n0\r\n\r\n"), 400),
    "length in a trailer": (_post(b"Transfer-Encoding: chunked", body=b"0\r\nContent-Length: 5\r\n\r\n"), 400),
    "compressed body": (_post(b"Content-Encoding: gzip", b"Content-Length: 2", body=b"{}"), 415),
    "folded header": (_get(headers=b"Host: localhost\r\nX-A: a\r\n b\r\n"), 400),
    "lines ended by LF": (b"GET /v1/models HTTP/1.1\nHost: localhost\n\n", 400),
    "bare CR": (_get(headers=b"Host: localhost\rX-A: b\r\n"), 400),
    "space before the colon": (_get(headers=b"Host : localhost\r\n"), 400),
    "header without a name": (_get(headers=b": localhost\r\n"), 400),
    "NUL in a header": (_get(headers=b"Host: localhost\x00\r\n"), 400),
    "control character in a header": (_get(headers=b"Host: localhost\r\nX-A: \x01\r\n"), 400),
    "no Host": (_get(headers=b"X-A: b\r\n"), 400),
    "two Hosts": (_get(headers=b"Host: localhost\r\nHost: localhost\r\n"), 400),
    "empty Host": (_get(headers=b"Host: \r\n"), 403),
    "foreign Host": (_get(headers=b"Host: evil.example\r\n"), 403),
    "Host that begins like loopback": (_get(headers=b"Host: localhost.evil.example\r\n"), 403),
    "Host with a user": (_get(headers=b"Host: localhost@evil.example\r\n"), 403),
    "Host with a path": (_get(headers=b"Host: localhost/x\r\n"), 403),
    "foreign Host in the target": (_get(b"http://evil.example/v1/models"), 403),
    "foreign Origin": (_get(headers=b"Host: localhost\r\nOrigin: https://evil.example\r\n"), 403),
    "Origin null": (_get(headers=b"Host: localhost\r\nOrigin: null\r\n"), 403),
    "Origin that begins like loopback": (
        _get(headers=b"Host: localhost\r\nOrigin: http://localhost.evil.example\r\n"),
        403,
    ),
    "HTTP/1.0": (_get(version=b"HTTP/1.0"), 505),
    "HTTP/2.0": (_get(version=b"HTTP/2.0"), 505),
    "HTTP/1.2": (_get(version=b"HTTP/1.2"), 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "RTSP": (b"PLAY /v1/models RTSP/1.0\r\n\r\n", 505),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\r\n\r\n", 501),
    "unknown method": (b"FROBNICATE /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
    "method in small letters": (b"get /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
    "CONNECT": (b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "upgrade": (_get(headers=b"Host: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"), 501),
    "space in the target": (_get(b"/v1/ models"), 400),
    "8-bit target": (_get(b"/v1/\xff"), 400),
    "fragment in the target": (_get(b"/v1/models#x"), 400),
    "target without a slash": (_get(b"v1/models"), 400),
    "target too long": (_get(b"/" + b"a" * 9000), 414),
    "header too long": (_get(headers=b"Host: localhost\r\nX-A: " + b"a" * 9000 + b"\r\n"), 431),
    "too many headers": (_get(headers=b"Host: localhost\r\n" + b"X-A: b\r\n" * 80), 431),
    "unknown expectation": (_post(b"Expect: gold", b"Content-Length: 2", body=b"{}"), 417),
}


def _body(text: bytes, path: bytes = b"/v1/chat/completions") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (path, len(text), text)


def _chat(**fields: bytes) -> bytes:
    inner = b"".join(b',"%b":%b' % (name.encode(), value) for name, value in fields.items())
    return _body(b'{"messages":[{"role":"user","content":"hi"}]%b}' % inner)


BODIES: dict[str, tuple[bytes, int]] = {
    "empty": (_body(b""), 400),
    "not JSON": (_body(b"{"), 400),
    "an array": (_body(b"[]"), 400),
    "a string": (_body(b'"hi"'), 400),
    "two values": (_body(b"{}{}"), 400),
    "NaN": (_chat(temperature=b"NaN"), 400),
    "Infinity": (_chat(temperature=b"-Infinity"), 400),
    "a number out of range": (_chat(temperature=b"1e999"), 400),
    "a repeated key": (_chat(model=b'"small","model":"large"'), 400),
    "a lone surrogate": (_body(b'{"messages":[{"role":"user","content":"\\ud800"}]}'), 400),
    "not UTF-8": (_body(b'{"messages":[{"role":"user","content":"\xff"}]}'), 400),
    "a byte order mark": (_body(b"\xef\xbb\xbf" + GOOD_BODY), 400),
    "too deep": (_chat(tools=b"[" * 5000 + b"]" * 5000), 400),
    "no messages": (_body(b"{}"), 400),
    "empty messages": (_body(b'{"messages":[]}'), 400),
    "messages not a list": (_body(b'{"messages":"hi"}'), 400),
    "message not an object": (_body(b'{"messages":["hi"]}'), 400),
    "message without a role": (_body(b'{"messages":[{"content":"hi"}]}'), 400),
    "content a number": (_body(b'{"messages":[{"role":"user","content":1}]}'), 400),
    "model a number": (_chat(model=b"1"), 400),
    "stream a string": (_chat(stream=b'"true"'), 400),
    "max_tokens a string": (_chat(max_tokens=b'"1"'), 400),
    "max_tokens huge": (_chat(max_tokens=b"99999999999"), 400),
    "stop an object": (_chat(stop=b"{}"), 400),
    "n_discard": (_chat(n_discard=b"-5"), 400),
    "chat_template": (_chat(chat_template=b'"{{ x }}"'), 400),
    "picture to be fetched": (
        _body(
            b'{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://10.0.0.1/x"}}]}]}'
        ),
        400,
    ),
    "unknown model": (_chat(model=b'"nope"'), 404),
    "chat of an embedding model": (_chat(model=b'"vectors"'), 400),
    "embedding by a chat model": (_body(b'{"input":"hi","model":"small"}', b"/v1/embeddings"), 400),
    "embedding of nothing": (_body(b"{}", b"/v1/embeddings"), 400),
    "completion of nothing": (_body(b"{}", b"/v1/completions"), 400),
    "Ollama: not JSON": (_body(b"{", b"/api/chat"), 400),
    "Ollama: prompt a number": (_body(b'{"model":"small","prompt":1}', b"/api/generate"), 400),
    "Ollama: options a list": (_body(b'{"model":"small","prompt":"hi","options":[]}', b"/api/generate"), 400),
    "Ollama: message without a role": (_body(b'{"model":"small","messages":[{"content":"x"}]}', b"/api/chat"), 400),
    "Ollama: unknown model": (_body(b'{"model":"nope","prompt":"hi"}', b"/api/generate"), 404),
    "Ollama: suffix": (_body(b'{"model":"small","prompt":"hi","suffix":"x"}', b"/api/generate"), 400),
    "unknown path": (_body(b"{}", b"/v1/nope"), 404),
    "wrong method": (b"DELETE /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    "GET of a POST": (b"GET /api/chat HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
}
