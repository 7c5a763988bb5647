"""gRPC over HTTP/2 on the event loop, as much of both as a server without TLS needs.

Why not grpcio's asyncio server: it spends 150 µs of processor time on an empty unary call and hands each event across a
thread, which is three quarters of a publish; this spends about a quarter of that. The protocol is RFC 9113, its header
compression is left to the `hpack` package, and gRPC's own layer is
github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

from localcloud.pubsub.transport.call import Call
from localcloud.pubsub.transport.server import GrpcServer
from localcloud.pubsub.transport.status import Status

__all__ = ["Call", "GrpcServer", "Status"]
