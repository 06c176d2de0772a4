package coord

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

var updateFlag = flag.Bool("update", false, "write golden files that do not exist yet; those that do are never changed")

// TestGoldenFormat holds what this binary writes in each version beside files written
// once and for all: it must write the same bytes for the same value, and read the value
// back. Those of version 1 are what the binary wrote that knew no other.
func TestGoldenFormat(t *testing.T) {
	for version := FormatVersion(oldestFormat); version <= formatVersion; version++ {
		t.Run(goldenDir(version), func(t *testing.T) { testGoldenFormat(t, version) })
	}
}

func testGoldenFormat(t *testing.T, version FormatVersion) {
	for name, cmd := range goldenCommands(version) {
		t.Run(name, func(t *testing.T) {
			e := newEncoder()
			e.command(cmd, version)
			want := golden(t, version, name, e.buf.Bytes())
			got, err := decodeCommand(want)
			if err != nil {
				t.Fatalf("decodeCommand: %v", err)
			}
			if !reflect.DeepEqual(got, cmd) {
				t.Errorf("decoded\n%+v, want\n%+v", got, cmd)
			}
		})
	}
	t.Run("result", func(t *testing.T) {
		e := newEncoder()
		e.format = version
		e.result(&goldenResult)
		d := newDecoder(golden(t, version, "result", e.buf.Bytes()))
		d.format = version
		var got result
		d.result(&got)
		if err := d.done(); err != nil || !reflect.DeepEqual(got, goldenResult) {
			t.Errorf("decoded %+v, %v, want %+v", got, err, goldenResult)
		}
	})
	t.Run("snapshot", func(t *testing.T) { testGoldenSnapshot(t, "snapshot", goldenState(version)) })
	if version >= formatMounts {
		t.Run("snapshot of a mount", func(t *testing.T) { testGoldenSnapshot(t, "snapshot-mount", goldenMountState()) })
	}
	if version > oldestFormat {
		return // what no version is in force in is written in the oldest
	}
	t.Run("empty snapshot", func(t *testing.T) {
		image := golden(t, version, "snapshot-empty", snapshotOf(t, newState(rootGroup).freeze()))
		if s, err := readSnapshot(rootGroup, bytes.NewReader(image), nil); err != nil || s.started() {
			t.Errorf("readSnapshot of a group before its init command: %v", err)
		}
	})
}

func testGoldenSnapshot(t *testing.T, name string, s *state) {
	if err := s.firstViolation(); err != nil {
		t.Fatal(err)
	}
	image := golden(t, s.version, name, snapshotOf(t, s.freeze()))
	got, err := readSnapshot(s.group, bytes.NewReader(image), nil)
	if err != nil {
		t.Fatalf("readSnapshot: %v", err)
	}
	if got.digest() != s.digest() || !bytes.Equal(snapshotOf(t, got.freeze()), image) {
		t.Error("the snapshot gives another state")
	}
	if !reflect.DeepEqual(stateParts(got), stateParts(s)) {
		t.Errorf("read\n%+v, want\n%+v", stateParts(got), stateParts(s))
	}
}

func goldenDir(version FormatVersion) string { return fmt.Sprintf("v%d", version) }

// golden compares got with the file of that version and name, and returns the file.
func golden(t *testing.T, version FormatVersion, name string, got []byte) []byte {
	t.Helper()
	file := filepath.Join("testdata", "format", goldenDir(version), name+".bin")
	want, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && *updateFlag {
		want = slices.Clone(got)
		err = os.WriteFile(file, got, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("this binary writes\n%x, but %s holds\n%x", got, file, want)
	}
	return want
}

// TestGoldenFilesAreComplete finds files that no test reads.
func TestGoldenFilesAreComplete(t *testing.T) {
	for version := FormatVersion(oldestFormat); version <= formatVersion; version++ {
		files, err := filepath.Glob(filepath.Join("testdata", "format", goldenDir(version), "*"))
		if err != nil {
			t.Fatal(err)
		}
		known := map[string]bool{
			"result.bin": true, "snapshot.bin": true, "log.bin": true, "log.txt": true, "member-status.bin": true,
		}
		switch version {
		case 1:
			known["snapshot-empty.bin"], known["member-hello.bin"] = true, true
		case 2:
			known["member-status-request.bin"], known["member-quiet.bin"], known["member-quiet-answer.bin"] = true, true, true
		}
		if version >= formatMounts {
			known["snapshot-mount.bin"] = true
		}
		for name := range goldenCommands(version) {
			known[name+".bin"] = true
		}
		for _, f := range files {
			if !known[filepath.Base(f)] {
				t.Errorf("%s is read by no test", f)
			}
		}
	}
}

// goldenCommands returns one command of each kind that a version has, and a batch for
// each kind of request and operation, with every field set.
func goldenCommands(version FormatVersion) map[string]*command {
	identities := []ID{{"digest", "u:h"}, {"ip", "10.0.0.1"}}
	acl := []ACL{{PermRead | PermAdmin, ID{"world", "anyone"}}, {1<<32 - 1, ID{"digest", "u:h"}}}
	batch := func(r request) *command {
		r.session, r.generation, r.identities, r.timeMS = 0x1122334455667788, 7, identities, 1_700_000_000_123
		return &command{kind: commandBatch, group: 3, member: 2, batch: &batchCommand{
			incarnation: 5, number: 1 << 40, observed: 1 << 63, requests: []request{r},
		}}
	}
	one := func(o op) *command {
		o.path, o.version, o.czxid = "/golden/é", -2147483648, 1<<64-1
		return batch(request{kind: requestWrite, ops: []op{o}})
	}
	touched := &command{kind: commandBatch, group: 3, member: 2, batch: &batchCommand{
		incarnation: 1, number: 2, observed: 3, requests: []request{},
		touch: &touch{markMS: 1_700_000_000_000, gapMS: 500, freeBytes: 1 << 41, lowOnSpace: true, silences: []silence{{9, 1, true}, {10, 1 << 41, false}}},
	}}
	clientAddr := ""
	if version >= membersChange {
		clientAddr = "b:2181"
	}
	all := map[string]*command{
		"init": {kind: commandInit, group: 1, member: 2, init: &initCommand{
			version: version, ensemble: "golden", id: 1<<64 - 2, timeMS: 1_700_000_000_000,
			settings: goldenSettings,
			members:  []memberRecord{{id: 1, addr: "a:7000"}, {id: 2, addr: "b:7000", role: Observer, clientAddr: clientAddr}},
		}},
		"hello":                {kind: commandHello, group: 1, member: 2, hello: &helloCommand{expected: 3, nonce: 1<<64 - 1, addr: "b:7000"}},
		"batch-touch":          touched,
		"op-create":            one(op{kind: opCreate, data: []byte{0, 1, 255}, mode: PersistentSequentialTTL, ttlMS: maxTTLMS, acl: acl, parents: persistentParents}),
		"op-create-null":       one(op{kind: opCreate}),
		"op-create-empty":      one(op{kind: opCreate, data: []byte{}, acl: []ACL{}}),
		"op-create-containers": one(op{kind: opCreate, mode: Ephemeral, parents: containerParents}),
		"op-delete":            one(op{kind: opDelete}),
		"op-set-data":          one(op{kind: opSetData, data: []byte("data")}),
		"op-set-acl":           one(op{kind: opSetACL, acl: acl}),
		"op-check":             one(op{kind: opCheck}),
		"op-check-absent":      one(op{kind: opCheckAbsent}),
		"op-check-children":    one(op{kind: opCheckChildren, count: -7}),
		"op-check-fewer":       one(op{kind: opCheckFewerChildren, count: 1<<31 - 1}),
		"op-add":               one(op{kind: opAdd, delta: -1 << 63}),
		"request-multi": batch(request{kind: requestMulti, ops: []op{
			{kind: opCheck, path: "/a", version: AnyVersion}, {kind: opDelete, path: "/b", version: 4},
		}}),
		"request-open-session":  batch(request{kind: requestOpenSession, timeoutMS: 10_000, password: [16]byte{15: 0xff}}),
		"request-close-session": batch(request{kind: requestCloseSession, yield: true}),
		"request-resume":        batch(request{kind: requestResume, timeoutMS: 20_000, password: [16]byte{0: 0xff, 15: 1}}),
		"request-release":       batch(request{kind: requestRelease}),
		"request-withdraw":      batch(request{kind: requestWithdraw, claim: 1 << 50}),
		"request-expire":        batch(request{kind: requestExpire, expiries: []expiry{{0x55, 2, 77}, {0x56, 1, 1 << 50}}}),
		"request-set-user":      batch(request{kind: requestSetUser, user: &user{name: "é e", hash: conceal("$2a$10$\x00\xff")}}),
		"request-remove-user":   batch(request{kind: requestRemoveUser, user: &user{name: "é e"}}),
		"request-set-template":  batch(request{kind: requestSetTemplate, template: &template{path: "/é", list: acl, enforced: true}}),
		"request-settings": batch(request{kind: requestSettings, change: &settingsChange{from: goldenSettings, to: settings{
			maxDataBytes: 1, minSessionTimeoutMS: 100, maxSessionTimeoutMS: mostSessionTimeoutMS, schemes: []string{},
		}}}),
		"request-reap":       batch(request{kind: requestReap, reaps: []reap{{"/c", 5, 6, -4}, {"/t", 1 << 41, 1 << 42, 2147483647}}}),
		"request-mount-step": batch(request{kind: requestMountStep, step: &mountStep{kind: stepFlip, path: "/é", group: 1 << 40}}),
		"request-take-back": batch(request{kind: requestMountStep, step: &mountStep{
			kind: stepTakeBack, path: "/é", group: 2, zxid: 1 << 63, back: &goldenImage,
		}}),
		"request-adopt": batch(request{kind: requestAdopt, decree: &decree{
			from: 3, to: 1 << 40, settings: &goldenSettings, users: []user{{name: "é e", hash: conceal("$2a$10$\x00\xff"), since: 1 << 63}},
			members: &memberDecree{configured: 1 << 40, members: []memberRecord{
				{id: 1, addr: "a:1", clientAddr: "a:2", directory: "d"}, {id: 3, addr: "é:1", role: Observer, removed: true, passing: true},
			}},
			noUsers: []string{"bob", "é"}, templates: []template{{path: "/é", list: acl, enforced: true}}, noTemplates: []string{"/"},
		}}),
		"request-adopt-nothing": batch(request{kind: requestAdopt, decree: &decree{
			users: []user{}, noUsers: []string{}, templates: []template{}, noTemplates: []string{},
		}}),
		"request-enter":    batch(request{kind: requestEnter, timeoutMS: 10_000}),
		"request-forget":   batch(request{kind: requestForget, forgotten: []SessionID{1, 1 << 63}}),
		"request-activate": batch(request{kind: requestActivate, version: 2}),
		"request-reconfigure": batch(request{kind: requestReconfigure, reconfiguration: &reconfiguration{follows: anyConfiguration, force: true, changes: []memberChange{
			{id: 4, role: Observer, addr: "d:1", clientAddr: "0.0.0.0:2181"}, {id: 1 << 40, remove: true},
		}}}),
		"request-join":   batch(request{kind: requestJoin, joining: &joining{id: 4, directory: "49fb9ad9-5bb4-4a5e-9d0d-0a2f6f6c8a9e", addr: "d:1", clientAddr: "d:2181"}}),
		"request-settle": batch(request{kind: requestSettle, settled: 1 << 41}),
	}
	if version >= formatMounts {
		all["init-mount"] = &command{kind: commandInit, group: 1 << 40, member: 2, init: &initCommand{
			version: version, ensemble: "golden", id: 1, settings: goldenSettings, members: []memberRecord{{id: 1, addr: "a:7000"}},
			seed: &mountSeed{path: "/é/x", zxid: 1 << 63, image: goldenImage},
		}}
	}
	maps.DeleteFunc(all, func(_ string, cmd *command) bool {
		return cmd.batch != nil && slices.ContainsFunc(cmd.batch.requests, func(r request) bool { return r.needs() > version })
	})
	return all
}

var goldenImage = mountImage{
	node: movedZnode{
		data: []byte{0, 255}, acl: []ACL{{PermRead, ID{"user", "é"}}}, czxid: 1, mzxid: 1 << 62, pzxid: 1 << 63,
		ctimeMS: -1, mtimeMS: 1_700_000_000_000, version: -2147483648, aversion: 2147483647, creates: -5,
	},
	quotas: movedZnode{acl: []ACL{}},
}

var goldenSettings = settings{
	maxDataBytes: 1 << 20, minSessionTimeoutMS: 2000, maxSessionTimeoutMS: 40_000, ttlNodes: true, enforceQuotas: true, maxEphemerals: 1 << 40,
	defaultACL: OpenACL(), superDigest: "super:hash", schemes: []string{"jwt", "ldap"},
}

var goldenResult = result{
	code: ErrNoAuth, zxid: 0x1234, session: 0x77, timeoutMS: 4000,
	ops: []opResult{{}, {code: ErrRuntimeInconsistency}, {path: "/a/s-0000000007", value: -12, stat: Stat{
		Czxid: 1, Mzxid: 2, Pzxid: 1 << 63, Ctime: 1_700_000_000_000, Mtime: -1, Version: 4, Cversion: -5, Aversion: 6,
		EphemeralOwner: 1 << 63, DataLength: 7, NumChildren: 8,
	}}},
}

// goldenState returns a state with something of everything that a version has.
func goldenState(version FormatVersion) *state {
	s := newState(rootGroup)
	s.apply(&command{kind: commandInit, group: rootGroup, member: 1, init: &initCommand{
		version: version, ensemble: "golden", id: 1<<64 - 2, timeMS: 1_700_000_000_000,
		settings: goldenSettings,
		members:  []memberRecord{{id: 1, addr: "a:1"}, {id: 2, addr: "b:1"}, {id: 3, addr: "c:1", role: Observer}},
	}}, 0)
	for id := range MemberID(2) {
		s.apply(&command{kind: commandHello, group: rootGroup, member: id + 1, hello: &helloCommand{nonce: 1 << 63, addr: "x:1"}}, 0)
	}
	applyRequests(s,
		request{kind: requestOpenSession, timeoutMS: 5000, password: [16]byte{1, 15: 2}, identities: []ID{{"digest", "u:h"}}},
		request{kind: requestOpenSession, timeoutMS: 6000},
		request{kind: requestOpenSession, timeoutMS: 7000},
		request{kind: requestOpenSession, timeoutMS: 8000},
		request{kind: requestResume, session: 3, timeoutMS: 9000},
		request{kind: requestRelease, session: 4, generation: 1})
	owned := func(id SessionID, path string) request {
		r := writeOf(op{kind: opCreate, path: path, mode: Ephemeral, data: []byte{}})
		r.session, r.generation = id, 1
		return r
	}
	requests := []request{
		writeOf(op{kind: opCreate, path: "/p", data: []byte("persistent"), acl: []ACL{{PermAll, ID{"world", "anyone"}}, {PermRead, ID{"digest", "u:h"}}}}),
		writeOf(op{kind: opCreate, path: "/p/s-", mode: PersistentSequential}),
		owned(1, "/p/e"), owned(2, "/e"),
		writeOf(op{kind: opCreate, path: "/c", mode: Container}),
		writeOf(op{kind: opCreate, path: "/c/ttl", mode: PersistentTTL, ttlMS: maxTTLMS}),
		writeOf(op{kind: opSetData, path: "/p", data: []byte("changed")}),
		writeOf(op{kind: opSetACL, path: "/c", acl: ReadOnlyACL()}),
		writeOf(op{kind: opDelete, path: "/p/s-0000000000"}),
		{kind: requestSetUser, user: &user{name: "eve", hash: conceal("$2a$10$hash")}},
		{kind: requestSetUser, user: &user{name: "bob", hash: conceal("\x00\xff")}},
		{kind: requestSetTemplate, template: &template{path: "/p", list: OpenACL(), enforced: true}},
		{kind: requestSetTemplate, template: &template{path: "/p/q", list: []ACL{{PermAll, ID{"auth", "x"}}, {PermRead, ID{"user", "eve"}}}}},
		writeOf(op{kind: opCreate, path: "/zookeeper/quota/p/zookeeper_limits", parents: persistentParents, data: []byte("count=2,bytes=-1=;byteHardLimit=100")}),
		writeOf(op{kind: opCreate, path: "/zookeeper/quota/p/zookeeper_stats"}),
	}
	if version >= formatMounts {
		requests = append(requests, goldenMounts()...)
	}
	applyRequests(s, requests...)
	s.apply(&command{kind: commandBatch, group: rootGroup, member: 1, batch: &batchCommand{
		incarnation: 1, number: 3, observed: 1 << 40,
		touch: &touch{markMS: 1_700_000_030_000, gapMS: 20_000, freeBytes: 1 << 33, silences: []silence{{2, 1, true}}},
		requests: []request{
			{kind: requestMulti, ops: []op{{kind: opCheck, path: "/p", version: AnyVersion}, {kind: opCheck, path: "/nope", version: AnyVersion}}},
			writeOf(op{kind: opAdd, path: "/zookeeper/quota", delta: 7}),
		},
	}}, 1<<63)
	// Binaries before ADR 14 had external sessions wait for a claim as well, and their
	// snapshots are read.
	external, _ := s.sessions.get(1)
	own := *external
	own.identities = nil
	s.sessions.put(&own)
	s.apply(&command{kind: commandBatch, group: rootGroup, member: 2, batch: &batchCommand{
		incarnation: 1, number: 1, touch: &touch{lowOnSpace: true, freeBytes: 1},
		requests: []request{{kind: requestResume, session: 1, password: [16]byte{1, 15: 2}, timeoutMS: 6000}},
	}}, 1)
	claimed, _ := s.sessions.get(1)
	claimant := *claimed
	claimant.identities = external.identities
	s.sessions.put(&claimant)
	s.apply(&command{kind: commandHello, group: rootGroup, member: 2, hello: &helloCommand{expected: 1, nonce: 2, addr: "y:1"}}, 0)
	if version >= membersChange {
		applyRequests(s,
			request{kind: requestReconfigure, reconfiguration: &reconfiguration{follows: anyConfiguration, changes: []memberChange{{id: 9, addr: "i:1", clientAddr: "i:2"}, {id: 3, remove: true}}}},
			request{kind: requestJoin, joining: &joining{id: 9, directory: "one", addr: "i:1"}},
			request{kind: requestJoin, joining: &joining{directory: "another", addr: "j:1"}})
	}
	return s
}

// goldenMounts returns requests that leave a mount in each phase.
func goldenMounts() []request {
	step := func(st mountStep) request { //nolint:gocritic // it is kept
		return request{kind: requestMountStep, step: &st}
	}
	return []request{
		writeOf(op{kind: opCreate, path: "/mounted", data: []byte("moved")}),
		writeOf(op{kind: opCreate, path: "/é/sealed", parents: persistentParents}),
		step(mountStep{kind: stepSeal, path: "/mounted"}),
		step(mountStep{kind: stepSeal, path: "/é/sealed"}),
		step(mountStep{kind: stepFlip, path: "/mounted", group: 2}),
	}
}

// goldenMountState returns a state of the group of a mount, with something of everything
// that such a state has.
func goldenMountState() *state {
	root := newTestState()
	root.setSettings(goldenSettings)
	applyRequests(root,
		writeOf(op{kind: opCreate, path: "/m", data: []byte{}, acl: ReadOnlyACL()}),
		request{kind: requestSetUser, user: &user{name: "eve", hash: conceal("$2a$10$hash")}},
		request{kind: requestSetTemplate, template: &template{path: "/m", list: OpenACL(), enforced: true}},
		request{kind: requestMountStep, step: &mountStep{kind: stepSeal, path: "/m"}})
	seed, m, _ := root.seedOf(2)
	s := newState(m.group)
	s.apply(&command{kind: commandInit, group: m.group, member: 1, init: &initCommand{
		version: formatVersion, ensemble: "golden", id: 7, timeMS: 1000, settings: root.settings, members: m.members, seed: seed,
	}}, 0)
	s.apply(&command{kind: commandHello, group: m.group, member: 1, hello: &helloCommand{nonce: 1, addr: "1:1"}}, 0)
	applyRequests(s,
		request{kind: requestAdopt, decree: root.decreeFor(s, maxDecreeBytes)},
		request{kind: requestEnter, session: 5, generation: 9, timeoutMS: 5000},
		request{kind: requestEnter, session: 6, generation: 1, timeoutMS: 5000},
		request{kind: requestEnter, session: 7, generation: 1, timeoutMS: 5000},
		request{kind: requestCloseSession, session: 6, generation: 1},
		request{kind: requestCloseSession, session: 7, generation: 1},
		request{kind: requestMountStep, step: &mountStep{kind: stepSealGroup, path: "/m", group: m.group}})
	return s
}

// stateParts returns what a state is made of in a form that can be compared.
func stateParts(s *state) any {
	type parts struct {
		group    GroupID
		version  FormatVersion
		ensemble string
		id       EnsembleID
		settings settings
		zxid     ZXID
		config   ZXID
		timeMS   int64
		nodes    []znode
		keys     []treeKey
		acls     [][]ACL
		sessions []session
		owners   []sessionOwner
		refs     []ephemeralRef
		counts   []ephemeralCount
		quotas   []quota
		reapable []treeKey
		members  []memberRecord
		users    []user
		rules    []ACLTemplate
		serves   mountPoint
		mounts   []mount
		given    uint64
		decrees  uint64
		ended    []SessionID
		tops     []treeKey
	}
	p := parts{
		group: s.group, version: s.version, ensemble: s.ensemble, id: s.id, settings: s.settings, zxid: s.zxid, config: s.configured, timeMS: s.timeMS,
		owners: slices.Collect(s.sessions.byOwner.all()), refs: slices.Collect(s.sessions.ephemerals.all()),
		reapable: slices.Collect(s.tree.reapable.all()), counts: slices.Collect(s.sessions.counts.all()),
		serves: s.serves, given: s.mounts.given, decrees: s.decrees, ended: slices.Collect(s.sessions.tombstones.all()), tops: s.tree.tops,
	}
	for m := range s.mounts.all() {
		p.mounts = append(p.mounts, *m)
	}
	for it := range s.quotas.byPath.all() {
		p.quotas = append(p.quotas, *it.quota)
	}
	for it := range s.tree.nodes.all() {
		n := *it.node
		p.acls = append(p.acls, n.acl.list)
		n.acl = nil
		p.nodes, p.keys = append(p.nodes, n), append(p.keys, it.key)
	}
	for u := range s.users.byName.all() {
		p.users = append(p.users, *u)
	}
	for it := range s.templates.byPath.all() {
		p.rules = append(p.rules, ACLTemplate{it.path, it.t.list, it.t.enforced})
	}
	for ses := range s.sessions.byID.all() {
		p.sessions = append(p.sessions, *ses)
	}
	for _, m := range s.members {
		c := *m
		if len(c.results) == 0 {
			c.results = nil
		}
		for i := range c.results {
			if len(c.results[i].ops) == 0 {
				c.results[i].ops = nil
			}
		}
		p.members = append(p.members, c)
	}
	return p
}
