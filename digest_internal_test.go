package coord

import "testing"

// TestDigest changes every part of a state that the digest is of, and what it leaves
// out.
func TestDigest(t *testing.T) {
	sessionOne := func(change func(*session)) func(*state) {
		return func(s *state) {
			ses, ok := s.sessions.get(1)
			if !ok || len(ses.identities) == 0 || ses.claim == nil {
				t.Fatalf("session 1 is %+v, want one with identities and a claim", ses)
			}
			n := *ses
			change(&n)
			s.sessions.put(&n)
		}
	}
	someUser := func(change func(*user)) func(*state) {
		return func(s *state) {
			for u := range s.users.byName.all() {
				n := *u
				change(&n)
				s.users.byName.remove(u)
				s.users.byName.put(&n)
				return
			}
			t.Fatal("there is no user")
		}
	}
	someTemplate := func(change func(*template)) func(*state) {
		return func(s *state) {
			for it := range s.templates.byPath.all() {
				n := *it.t
				change(&n)
				s.templates.byPath.remove(it)
				s.putTemplate(n)
				return
			}
			t.Fatal("there is no template")
		}
	}
	znodeOf := func(change func(*znode)) func(*state) {
		return func(s *state) {
			k, _ := keyOf("/p")
			n, ok := s.tree.lookup(k)
			if !ok {
				t.Fatal("there is no /p")
			}
			m := *n
			change(&m)
			s.tree.nodes.put(treeItem{k, &m})
		}
	}
	whole := goldenState(formatVersion).digest()
	seen := map[Digest]string{whole: "the state as it was"}
	for name, change := range map[string]func(*state){
		"version": func(s *state) { s.version++ },
		"zxid":    func(s *state) { s.zxid++ },
		"the id of a session": func(s *state) {
			ses, _ := s.sessions.get(1)
			n := *ses
			n.id = 99
			s.sessions.drop(ses)
			s.sessions.put(&n)
		},
		"no session":                 func(s *state) { ses, _ := s.sessions.get(1); s.sessions.drop(ses) },
		"the timeout of a session":   sessionOne(func(n *session) { n.timeoutMS++ }),
		"the password of a session":  sessionOne(func(n *session) { n.password[15]++ }),
		"an identity of a session":   sessionOne(func(n *session) { n.identities = []ID{{"digest", "u:other"}} }),
		"no identity of a session":   sessionOne(func(n *session) { n.identities = []ID{} }),
		"the ensemble's own code":    sessionOne(func(n *session) { n.identities = nil }),
		"the generation":             sessionOne(func(n *session) { n.generation++ }),
		"a session that is released": sessionOne(func(n *session) { n.released = !n.released }),
		"no claim":                   sessionOne(func(n *session) { n.claim = nil }),
		"another claim":              sessionOne(func(n *session) { c := *n.claim; c.generation++; n.claim = &c }),
		"the name of a user":         someUser(func(n *user) { n.name += "x" }),
		"the hash of a user":         someUser(func(n *user) { n.hash = conceal("other") }),
		"since when a user is":       someUser(func(n *user) { n.since++ }),
		"the path of a template":     someTemplate(func(n *template) { n.path += "x" }),
		"the list of a template":     someTemplate(func(n *template) { n.list = []ACL{{PermRead, ID{"digest", "u:other"}}} }),
		"an enforced template":       someTemplate(func(n *template) { n.enforced = !n.enforced }),
		"data":                       znodeOf(func(n *znode) { n.data = []byte("other") }),
		"null data":                  znodeOf(func(n *znode) { n.data = nil }),
		"empty data":                 znodeOf(func(n *znode) { n.data = []byte{} }),
		"an ACL":                     znodeOf(func(n *znode) { n.acl = newACLEntry("other", nil) }),
		"the kind of a znode":        znodeOf(func(n *znode) { n.kind = Container }),
		"the owner of a znode":       znodeOf(func(n *znode) { n.owner++ }),
		"the time to live":           znodeOf(func(n *znode) { n.ttlMS++ }),
		"czxid":                      znodeOf(func(n *znode) { n.czxid++ }),
		"mzxid":                      znodeOf(func(n *znode) { n.mzxid++ }),
		"pzxid":                      znodeOf(func(n *znode) { n.pzxid++ }),
		"ctime":                      znodeOf(func(n *znode) { n.ctimeMS++ }),
		"mtime":                      znodeOf(func(n *znode) { n.mtimeMS++ }),
		"the version of a znode":     znodeOf(func(n *znode) { n.version++ }),
		"aversion":                   znodeOf(func(n *znode) { n.aversion++ }),
		"the counter of children":    znodeOf(func(n *znode) { n.creates++ }),
		"the number of children":     znodeOf(func(n *znode) { n.children++ }),
	} {
		s := goldenState(formatVersion)
		change(s)
		d := s.digest()
		if same, taken := seen[d]; taken {
			t.Errorf("%s gives the digest of %s", name, same)
		}
		seen[d] = name
	}
	for name, change := range map[string]func(*state){
		"group time":        func(s *state) { s.timeMS++ },
		"settings":          func(s *state) { s.settings.maxDataBytes++; s.settings.schemes = nil },
		"a touch":           func(s *state) { m := *s.members.get(1); m.touches++; s.members = s.members.with(&m) },
		"silence":           sessionOne(func(n *session) { n.silent, n.touched = !n.silent, n.touched+1 }),
		"a freeze":          func(s *state) { *s = *s.freeze() },
		"what is forgotten": func(s *state) { s.acls = newACLTable() },
	} {
		s := goldenState(formatVersion)
		change(s)
		if s.digest() != whole {
			t.Errorf("%s gives another digest", name)
		}
	}
}
