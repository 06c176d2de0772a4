package zkserver

import (
	"fmt"
	"os"
	"strings"

	"coord"
)

// wordMntr tells numbers for monitoring. The names are ZooKeeper's; of the some 400 that
// it has, those that tell of its threads, queues and caches have no counterpart here.
func (s *Server) wordMntr(now *standing) string {
	var b strings.Builder
	put := func(key string, value any) { fmt.Fprintf(&b, "zk_%s\t%v\n", key, value) }
	i := s.info()
	put("version", Version+", built on "+built)
	put("server_state", now.mode())
	if v, err := s.view(now); err == nil {
		put("ephemerals_count", v.EphemeralCount())
		put("global_sessions", clientSessions(v, now))
		put("approximate_data_size", approximateSize(v, now))
	}
	put("local_sessions", s.locals.count())
	put("num_alive_connections", i.connections)
	put("avg_latency", average(i.avgLatency))
	put("min_latency", i.minLatency.Milliseconds())
	put("max_latency", i.maxLatency.Milliseconds())
	put("packets_received", i.received)
	put("packets_sent", i.sent)
	put("outstanding_requests", i.outstanding)
	put("znode_count", nodeCount(now))
	put("watch_count", now.status.Watches)
	put("uptime", now.at.Sub(s.started).Milliseconds())
	if open, most, ok := fileDescriptors(); ok {
		put("open_file_descriptor_count", open)
		put("max_file_descriptor_count", most)
	}
	put("connection_drop_probability", "0.0")
	put("connection_rejected", s.counts.rejected.Load())
	put("response_bytes", s.counts.sentBytes.Load())
	for _, key := range []string{"last", "min", "max"} {
		put(key+"_client_response_size", -1)
	}
	s.putQuorum(put, now)
	return b.String()
}

// putQuorum tells what ZooKeeper tells in an ensemble.
func (s *Server) putQuorum(put func(key string, value any), now *standing) {
	members := len(now.status.Members)
	if members <= 1 {
		return
	}
	put("quorum_size", members)
	switch now.mode() {
	case "leader":
		put("peer_state", "leading - broadcast")
		connected := s.connectedMembers()
		put("learners", connected)
		put("synced_followers", connected)
		put("synced_non_voting_followers", 0)
		put("synced_observers", 0)
		put("pending_syncs", 0)
		for _, key := range []string{"last", "min", "max"} {
			put(key+"_proposal_size", -1)
		}
	case "observer":
		put("peer_state", "observing - broadcast")
	case "follower":
		put("peer_state", "following - broadcast")
	}
}

// connectedMembers returns how many other members a leader sends to.
func (s *Server) connectedMembers() int {
	n := 0
	for _, l := range s.c.Links() {
		if l.Peer != 0 && !l.Incoming && l.Connections > 0 {
			n++
		}
	}
	return n
}

// clientSessions returns the number of sessions of clients: the members have one each as
// well. Of very many all are counted.
func clientSessions(v *coord.View, now *standing) int {
	if now.status.Sessions > maxWordExamined {
		return now.status.Sessions
	}
	n := 0
	for info := range v.Sessions() {
		if info.External {
			n++
		}
	}
	return n
}

// approximateSize returns the bytes of all paths and data, extrapolated from the first
// znodes where there are very many.
func approximateSize(v *coord.View, now *standing) int64 {
	var seen, size int64
	for z := range v.Walk("/") {
		if seen == maxWordExamined {
			return size * int64(now.status.Znodes) / seen
		}
		seen++
		size += int64(len(z.Path)) + int64(len(z.Data))
	}
	return size
}

// fileDescriptors returns how many files the process has open, where that can be known.
func fileDescriptors() (open int, most uint64, ok bool) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, 0, false
	}
	limits, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		return 0, 0, false
	}
	for line := range strings.Lines(string(limits)) {
		if rest, found := strings.CutPrefix(line, "Max open files"); found {
			if _, err := fmt.Sscan(rest, &most); err == nil {
				return len(entries), most, true
			}
		}
	}
	return 0, 0, false
}
