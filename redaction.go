package coord

import (
	"fmt"
	"log/slog"
)

// The types in this file hold what must not get into logs and messages by being
// printed. They have Format methods because String is not asked for every verb.

// String returns the scheme and the id, for example "ip:10.0.0.1", for logs and
// messages: the hash in a digest identity is left out.
func (id ID) String() string { return id.Scheme + ":" + id.redacted().ID }

// Format implements [fmt.Formatter], so that no verb shows the hash of a password. A
// struct with an ID in a field that is not exported is printed without asking it.
func (id ID) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(id.String())) }

// LogValue implements [slog.LogValuer], for an ID that is an attribute by itself: in a
// list or a struct, handlers print what they find.
func (id ID) LogValue() slog.Value { return slog.StringValue(id.String()) }

// Format implements [fmt.Formatter]: SuperDigest and what Authenticators hold are not
// shown.
func (c Config) Format(f fmt.State, verb rune) { //nolint:gocritic // a value can be printed, too
	type plain Config // without this method
	if c.SuperDigest != "" {
		c.SuperDigest = "x"
	}
	names := map[string]Authenticator{}
	for scheme := range c.Authenticators {
		names[scheme] = nil
	}
	c.Authenticators = names
	_, _ = fmt.Fprintf(f, fmt.FormatString(f, verb), plain(c))
}

// LogValue implements [slog.LogValuer]: handlers would look into the struct otherwise.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprintf("%+v", c)) } //nolint:gocritic // as above

// String returns for example "member 1 of billing".
func (c *Coordinator) String() string { return fmt.Sprintf("member %v of %s", c.cfg.ID, c.cfg.Name) }

// Format implements [fmt.Formatter], so that no verb shows the configuration.
func (c *Coordinator) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// String returns for example "session 0x000000000000002a".
func (s *Session) String() string { return "session " + s.id.String() }

// Format implements [fmt.Formatter]: a verb that does not fit would show everything.
func (s *Session) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue implements [slog.LogValuer]: handlers would look into the struct otherwise.
func (o SessionOptions) LogValue() slog.Value { return slog.StringValue(fmt.Sprintf("%+v", o)) }

// LogValue implements [slog.LogValuer]: in DefaultACL handlers would find hashes.
func (s Settings) LogValue() slog.Value { return slog.StringValue(fmt.Sprintf("%+v", s)) } //nolint:gocritic // as above

// LogValue implements [slog.LogValuer]: handlers would find the hashes in the list.
func (t ACLTemplate) LogValue() slog.Value { return slog.StringValue(fmt.Sprintf("%+v", t)) }

// LogValue implements [slog.LogValuer], for an entry that is an attribute by itself.
func (a ACL) LogValue() slog.Value { return slog.StringValue(fmt.Sprintf("%d %v", a.Perms, a.ID)) }

// String returns for example "watch of /a, subtree".
func (w *Watch) String() string { return "watch of " + quotePath(w.path) + ", " + w.mode.String() }

// Format implements [fmt.Formatter], as that of [Session.Format].
func (w *Watch) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(w.String())) }

// String returns for example "watch set of session 0x000000000000002a".
func (ws *WatchSet) String() string { return "watch set of " + ws.s.String() }

// Format implements [fmt.Formatter], as that of [Session.Format].
func (ws *WatchSet) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(ws.String())) }

// Format implements [fmt.Formatter]: no verb shows what the write was.
func (e *OutcomeError) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(e.Error())) }

// String returns for example "view at 0x2a".
func (v *View) String() string { return "view at " + v.ZXID().String() }

// Format implements [fmt.Formatter], so that no verb shows for whom the view is.
func (v *View) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(v.String())) }

// String returns for example "setData /a": neither data nor ACL.
func (o Op) String() string { //nolint:gocritic // a value can be printed, too
	if _, known := opNames[o.op.kind]; !known {
		return "no operation"
	}
	return o.op.kind.String() + " " + quotePath(o.op.path)
}

// Format implements [fmt.Formatter], so that no verb shows data or ACL.
func (o Op) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(o.String())) } //nolint:gocritic // as above
