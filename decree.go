package coord

import (
	"iter"
	"slices"
)

// Decrees are what holds in all groups and is decided in the root group: settings,
// users, templates, and who the members are. The root group counts its decrees, and every other group has a
// copy of what they say as of some count. Its leader has it adopt what is new, so that
// apply there decides by its own log alone.

// A decree is a difference between the root group's decrees and a group's copy.
type decree struct {
	from, to uint64 // the group's count before and behind it; equal if there is more to come

	settings    *settings     // nil: as they are
	members     *memberDecree // nil: as they are
	users       []user
	noUsers     []string // users that are no more
	templates   []template
	noTemplates []string // the paths of templates that are no more
}

// maxDecreeBytes bounds what a decree has of users and templates, but for the last one.
const maxDecreeBytes = 1 << 20

// decreed returns the count of the root group's decrees as copies have it: a group that
// has adopted nothing is at 0, and even the first settings are something to adopt.
func (s *state) decreed() uint64 { return s.decrees + 1 }

// decree counts a change of settings, users, templates or members.
func (s *state) decree() {
	if s.version >= formatMounts { // snapshots of older ones do not have the count
		s.decrees++
	}
}

// decreeFor returns what a copy has to adopt next, or nil if it is up to date. room is
// how much it may have, in bytes.
func (s *state) decreeFor(copied *state, room int) *decree {
	if copied.decrees >= s.decreed() { // above: s is behind
		return nil
	}
	d := &decree{from: copied.decrees, to: s.decreed()}
	if !s.settings.equal(&copied.settings) {
		set := s.settings
		d.settings = &set
	}
	d.members = s.memberDecreeFor(copied)
	for add := range decreeParts(s, copied) {
		if room <= 0 {
			d.to = d.from
			break
		}
		room -= add(d)
	}
	return d
}

// decreeParts yields the differences between the root group's users and templates and
// a copy. Each adds itself to a decree and returns its size, in bytes.
func decreeParts(s, copied *state) iter.Seq[func(*decree) int] {
	return func(yield func(func(*decree) int) bool) {
		_ = differentUsers(s, copied, yield) && differentTemplates(s, copied, yield)
	}
}

func differentUsers(s, copied *state, yield func(func(*decree) int) bool) bool {
	for u := range s.users.byName.all() {
		if have, ok := copied.users.get(u.name); ok && *have == *u {
			continue
		}
		if !yield(func(d *decree) int { d.users = append(d.users, *u); return u.size() }) {
			return false
		}
	}
	for u := range copied.users.byName.all() {
		if _, ok := s.users.get(u.name); ok {
			continue
		}
		if !yield(func(d *decree) int { d.noUsers = append(d.noUsers, u.name); return u.size() }) {
			return false
		}
	}
	return true
}

func differentTemplates(s, copied *state, yield func(func(*decree) int) bool) bool {
	for it := range s.templates.byPath.all() {
		have := copied.templates.at(it.path, nil)
		if have != nil && have.enforced == it.t.enforced && slices.Equal(have.list, it.t.list) {
			continue
		}
		part := template{path: it.path, list: it.t.list, enforced: it.t.enforced}
		if !yield(func(d *decree) int { d.templates = append(d.templates, part); return part.size() }) {
			return false
		}
	}
	for it := range copied.templates.byPath.all() {
		if s.templates.at(it.path, nil) != nil {
			continue
		}
		if !yield(func(d *decree) int { d.noTemplates = append(d.noTemplates, it.path); return it.t.size() }) {
			return false
		}
	}
	return true
}

// size is what a decree has, in bytes.
func (d *decree) size() int64 {
	n := int64(len(d.noUsers)+len(d.noTemplates)) * 64
	if d.settings != nil {
		n += settingsBytes(d.settings)
	}
	if d.members != nil {
		n += d.members.size()
	}
	for i := range d.users {
		n += int64(d.users[i].size())
	}
	for i := range d.templates {
		n += int64(d.templates[i].size())
	}
	return n
}

// size is what a user counts in a decree, in bytes.
func (u *user) size() int { return 64 + len(u.name) + len(u.hash.reveal()) }

// size is what a template counts in a decree, in bytes.
func (t *template) size() int {
	n := 64 + len(t.path)
	for _, a := range t.list {
		n += 16 + len(a.ID.Scheme) + len(a.ID.ID)
	}
	return n
}

// adopt takes over what the root group has decreed, unless the group has adopted
// something else meanwhile.
func (x *execution) adopt() result {
	d := x.r.decree
	switch {
	case x.s.serves.none():
		return x.refused(ErrWrongGroup)
	case x.r.identities != nil:
		return x.refused(ErrNoAuth)
	case d.from != x.s.decrees:
		return x.refused(ErrBadVersion)
	case d.to < d.from || d.settings != nil && d.settings.fault() != "":
		return x.refused(ErrBadArguments)
	}
	if d.members != nil {
		members, ok := x.s.membersAs(d.members)
		if !ok {
			return x.refused(ErrBadArguments)
		}
		x.s.members, x.s.configured, x.eff.members = members, d.members.configured, true
	}
	x.s.decrees = d.to
	if d.settings != nil {
		x.s.setSettings(*d.settings)
	}
	for i := range d.users {
		x.s.users.byName.put(&d.users[i])
	}
	for _, name := range d.noUsers {
		x.s.users.byName.remove(&user{name: name})
	}
	for i := range d.templates {
		x.s.putTemplate(d.templates[i])
	}
	for _, path := range d.noTemplates {
		x.s.templates.byPath.remove(templateItem{path: path})
	}
	return result{zxid: x.s.zxid}
}
