// Package peernet is the network between the members of an ensemble: raft
// messages, snapshots and calls from member to member, all through one
// listener, each connection after a handshake in which both ends say who they
// are.
//
// A [Net] is one member's end of it, made from a [Config] by [New]. The raft
// library uses it as its transport and knows peers by their [Target]; the
// member itself uses [Net.Call] and reads the counters of [Net.Links].
//
//	net, err := peernet.New(peernet.Config{
//		Ensemble: "orders", Member: 1, Directory: uuid,
//		Addr: "a:7000", Listen: "a:7000", TLS: tlsConfig, AddrOf: addrOf,
//	})
//	…
//	answer, err := net.Call(ctx, 2, "status", nil)
//
// # Guarantees
//
//	N1  nothing that a peer says is believed, and nothing it asks is done, before
//	    it is known to be a member of this ensemble: the protocol version, the
//	    ensemble, the member id, the wanted id, with TLS the certificate, and
//	    Config.Admit all agree, on both ends; the one exception is a stranger that
//	    asks to become a member: it gets as far as one small call to
//	    Config.Strangers, and few do at a time
//	N2  a refusal reaches the other end with its reason, see [RefusedError]
//	N3  what arrives is what was sent: each frame has a checksum, with TLS as well
//	N4  no bytes from outside end the process, hold memory that was not received,
//	    or keep a handshake open for longer than its deadline; a broken frame
//	    closes its connection and no other
//	N5  raft gets only messages that the peer at the other end may send: from that
//	    member, to this one, and of a type that is sent from one to another
//	N6  a peer that is slow or silent delays nobody else
//	N7  when the transport is closed, no handler of it runs any more
//
// # The wire
//
// A connection begins with an opening from the dialer and one from the
// acceptor, each a hello or a refusal, and goes on with frames; all numbers
// are big-endian. Openings have the same shape in all versions of the
// protocol, so that each version can refuse each other one in words.
//
//	opening   magic "coord/peer\n"  version u16  kind u8  length u16  body  crc32c u32
//	frame     kind u8  zero [3]  length u32  crc32c(body) u32  crc32c(the 12 before) u32  body
//
// The body of a hello is: purpose u8 (1 raft, 2 snapshot, 3 call), member u64 (0 if
// it is none), wanted member u64 (0 if it is not known which), then the ensemble,
// the directory and the address, each with its length u16 before it. That of a
// refusal is its reason.
//
// The kinds of frames: 1 a batch of raft messages and 2 a chunk of a snapshot,
// both in the raft library's encoding; 3 the snapshot was kept, empty; 4 the
// request of a call: timeout in milliseconds u32 (0 for none), length of the
// method u8, method, body; 5 its answer; 6 its error, as text; 7 a refusal.
//
// Raft and snapshot connections carry frames from the dialer; the acceptor
// answers the last chunk of a snapshot, so that the dialer knows that it was
// kept. A connection for a call carries a request and its answer; one with member 0
// at an end is for a call. Either end may send a refusal instead of anything else
// before it closes the connection.
package peernet
