// Package jute is the form of ZooKeeper's requests and answers on the wire: the
// encoding that ZooKeeper calls jute, and the records, opcodes and error codes of
// its client protocol. It knows bytes only: no connection, no session, no tree.
//
// Numbers are big-endian. A bool is one byte. A string or buffer is its length, an
// int32, and its bytes; a vector its count and its elements; -1 is null for all of
// them. A record is its fields, one after the other, without tags, so that bytes
// behind the last field that a reader knows mean nothing to it.
//
// What is encoded and decoded again is the same, but for what the protocol does not
// tell apart. Decoding never panics, keeps nothing of the input but buffers, which
// share its memory, and allocates no more than a constant times the length of the
// input: a length is compared with what there is before anything is made of it.
package jute
