package main

import (
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"time"

	"coord/internal/zoocfg"
)

// confLines is what the four-letter word conf answers, in ZooKeeper's order.
func confLines(cfg *zoocfg.Config, dir string) []string {
	size := dirSize(dir)
	lines := []string{
		"clientPort=" + portOf(cfg.ClientAddr), "secureClientPort=" + portOf(cfg.SecureClientAddr),
		"dataDir=" + dir, fmt.Sprintf("dataDirSize=%d", size), "dataLogDir=" + dir, fmt.Sprintf("dataLogSize=%d", size),
		fmt.Sprintf("tickTime=%d", cfg.TickTime/time.Millisecond), fmt.Sprintf("maxClientCnxns=%d", cfg.MaxClientCnxns),
		fmt.Sprintf("minSessionTimeout=%d", cfg.MinSessionTimeout/time.Millisecond),
		fmt.Sprintf("maxSessionTimeout=%d", cfg.MaxSessionTimeout/time.Millisecond),
		"clientPortListenBacklog=-1", fmt.Sprintf("serverId=%d", cfg.MyID),
	}
	me, ok := cfg.Me()
	if !ok || !cfg.Distributed() {
		return lines
	}
	peerType := 0
	if me.Observer {
		peerType = 1
	}
	lines = append(lines,
		fmt.Sprintf("initLimit=%d", cfg.InitLimit), fmt.Sprintf("syncLimit=%d", cfg.SyncLimit), "electionAlg=3",
		fmt.Sprintf("electionPort=%d", me.ElectionPort), fmt.Sprintf("quorumPort=%d", me.PeerPort), fmt.Sprintf("peerType=%d", peerType), "membership: ")
	for _, s := range cfg.Servers {
		role := "participant"
		if s.Observer {
			role = "observer"
		}
		line := fmt.Sprintf("server.%d=%s:%d:%s", s.ID, s.PeerAddr(), s.ElectionPort, role)
		if s.ClientAddr != "" {
			line += ";" + s.ClientAddr
		}
		lines = append(lines, line)
	}
	return append(lines, "version=0")
}

// portOf returns the port of an address, -1 for none.
func portOf(addr string) string {
	if _, port, err := net.SplitHostPort(addr); err == nil {
		return port
	}
	return "-1"
}

// dirSize returns the bytes in the files of a directory, as far as they can be seen.
func dirSize(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // files come and go while the member runs
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}
