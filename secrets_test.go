package coord_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
)

// A vault holds what must not be printed, and what was.
type vault struct {
	mu      sync.Mutex
	printed bytes.Buffer // guarded by mu
	secrets map[string]string
}

// Write takes what a logger writes.
func (v *vault) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.printed.Write(p)
}

// hide plants a secret. It must not be found in any of its usual forms.
func (v *vault) hide(what, secret string) string {
	v.secrets[what] = secret
	v.secrets[what+" in hexadecimal"] = hex.EncodeToString([]byte(secret))
	v.secrets[what+" in base64"] = strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(secret)), "=")
	return secret
}

// hideDigest plants a credential, its password, and the hash that is made of it.
func (v *vault) hideDigest(what, credential string) string {
	_, password, _ := strings.Cut(credential, ":")
	v.hide("the password of "+what, password)
	_, hash, _ := strings.Cut(coord.DigestID(credential).ID, ":")
	v.hide("the hash of "+what, hash)
	return credential
}

// hideToken plants a token and the password in it.
func (v *vault) hideToken(t *testing.T, what string, token coord.Token) coord.Token {
	t.Helper()
	digits := strings.TrimPrefix(token.Text(), "coord1.")
	raw, err := base64.RawURLEncoding.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	v.hide("the token of "+what, digits)
	v.hide("the password in the token of "+what, string(raw[16:32]))
	v.hide("the decimal password in the token of "+what, strings.Trim(fmt.Sprintf("%d", raw[16:32]), "[]"))
	return token
}

// show prints values as programs print them that look for a fault.
func (v *vault) show(values ...any) {
	loggers := []*slog.Logger{
		slog.New(slog.NewTextHandler(v, nil)), slog.New(slog.NewJSONHandler(v, nil)), // they have their own ideas
	}
	for _, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			_, _ = fmt.Fprintf(v, verb+"\n", value)
		}
		for _, log := range loggers {
			log.Info("shown", slog.Any("value", value))
		}
	}
}

// search reports the secrets that were printed.
func (v *vault) search(t *testing.T) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	for what, secret := range v.secrets {
		if at := bytes.Index(v.printed.Bytes(), []byte(secret)); at >= 0 {
			from, to := max(0, at-200), min(v.printed.Len(), at+len(secret)+40)
			t.Errorf("%s was printed: …%s…", what, v.printed.Bytes()[from:to])
		}
	}
}

// telltale is a plug-in that tells its credential to whoever listens.
type telltale struct{ key string }

func (telltale) Authenticate(_ context.Context, credential []byte) ([]string, error) {
	if bytes.HasPrefix(credential, []byte("panic")) {
		panic(string(credential))
	}
	if bytes.HasPrefix(credential, []byte("error")) {
		return nil, fmt.Errorf("%s is not accepted", credential)
	}
	return []string{"somebody"}, nil
}

// TestSecretsAreNotPrinted plants passwords, tokens, hashes and data, does everything
// that may go wrong with them, and looks for them in all logs at all levels, in the texts
// of all errors, and in what public values print.
func TestSecretsAreNotPrinted(t *testing.T) {
	v := &vault{secrets: map[string]string{}}
	super := v.hideDigest("who may do everything", "super:planted-super-password")
	eve := v.hideDigest("eve", "eve:planted-eve-password")
	wrong := v.hideDigest("mallory", "mallory:planted-wrong-password")
	data := v.hide("data", "planted-data-of-a-znode")
	key := v.hide("the key of a plug-in", "planted-key")
	refused := v.hide("a credential that is refused", "error-planted-credential")
	panics := v.hide("a credential with which a plug-in panics", "panic-planted-credential")
	var configs []coord.Config
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		ctx := t.Context()
		s := outsider([]coord.ID{coord.DigestID(eve)}, "digest "+super, "jwt fine")(t, c)
		token := v.hideToken(t, "a session", s.Token())
		v.hideToken(t, "the own session", c.Session().Token())
		var errs []error
		try := func(err error) { errs = append(errs, err) }
		try(s.AddAuth(ctx, "jwt", []byte(refused)))
		try(s.AddAuth(ctx, "jwt", []byte(panics)))
		try(s.AddAuth(ctx, "nobody", []byte(wrong)))
		try(s.AddAuth(ctx, wrong, []byte(wrong)[:0]))
		try(s.AddAuth(ctx, "digest", []byte(strings.Repeat("x", 2000)+wrong)))
		list := []coord.ACL{{Perms: coord.PermRead, ID: coord.DigestID(eve)}, {Perms: coord.PermAll, ID: coord.DigestID(wrong)}}
		_, _, err := s.Create(ctx, "/n", []byte(data), coord.WithACL(list...))
		try(err)
		_, _, err = s.Create(ctx, "/n", []byte(data), coord.WithACL(list...))
		try(err)
		_, err = s.SetACL(ctx, "/n", append(slices.Clip(list), coord.ACL{ID: coord.ID{Scheme: "digest", ID: coord.DigestID(wrong).ID + ":x"}}))
		try(err)
		_, err = s.SetACL(ctx, "/n", list)
		try(err)
		for _, scheme := range []string{"auth", "user", "unknown", "Digest", wrong} { // where clients put credentials
			asked := []coord.ACL{{Perms: coord.PermAll, ID: coord.ID{Scheme: scheme, ID: wrong}}}
			_, err = c.SetACL(ctx, "/other", asked)
			try(err)
			_, err = s.SetACL(ctx, "/other", asked)
			try(err)
			_, _, err = s.Create(ctx, "/other", nil, coord.WithACL(asked...))
			try(err)
			try(c.SetACLTemplate(ctx, "/other", asked))
		}
		set := coord.SetDataOp("/n", []byte(data), coord.WithVersion(7))
		create := coord.CreateOp("/m", []byte(data), coord.WithACL(list...))
		results, err := s.Multi(ctx, create, set)
		try(err)
		_, _, err = s.Add(ctx, "/n", 1)
		try(err)
		_, err = s.SetData(ctx, "/n", []byte(strings.Repeat(data, 1<<16)))
		try(err)
		_, _, err = coord.NewTyped[int](s, coord.Msgpack[int]()).Get(ctx, "/n")
		try(err)
		stranger := outsider(nil, "digest "+wrong)(t, c)
		v.hideToken(t, "a stranger", stranger.Token())
		_, _, err = stranger.Get(ctx, "/n")
		try(err)
		w, err := stranger.Watch(ctx, "/", coord.Subtree, coord.WithData(), coord.WithInitial())
		try(err)
		defer w.Close()
		ws, err := stranger.NewWatchSet(ctx)
		try(err)
		defer ws.Close()
		view, err := s.View(ctx)
		try(err)
		_, err = c.Resume(ctx, token, coord.SessionOptions{})
		try(err)
		_, err = c.Resume(ctx, coord.ForgedToken(token, "password"), coord.SessionOptions{External: true})
		try(err)
		_, err = c.Resume(ctx, coord.ForgedToken(token, "ensemble"), coord.SessionOptions{External: true})
		try(err)
		for _, text := range []string{token.Text() + "x", token.Text()[1:], strings.ToLower(token.Text()), token.Text()[:30] + "Z" + token.Text()[31:]} {
			_, err = coord.ParseToken(text)
			try(err)
		}
		o := coord.SessionOptions{Identities: []coord.ID{coord.DigestID(eve)}}
		_, err = c.NewSession(ctx, o)
		try(err)
		for _, cfg := range []coord.Config{
			{Dir: t.TempDir(), SuperDigest: coord.DigestID(super).ID + ":x", DefaultACL: append(list, coord.ACL{ID: coord.ID{Scheme: "digest", ID: coord.DigestID(wrong).ID + ":x"}})},
			{SuperDigest: coord.DigestID(super).ID, DefaultACL: list, Authenticators: map[string]coord.Authenticator{"Bad Name": telltale{key}}},
		} {
			_, err = coord.Open(ctx, cfg)
			try(err)
			configs = append(configs, cfg)
		}
		e.Isolate(c)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err = s.SetACL(short, "/n", list)
		try(err)
		unknown, _ := errors.AsType[*coord.OutcomeError](err)
		e.Heal()
		again, err := c.Resume(ctx, token, coord.SessionOptions{External: true, Identities: []coord.ID{coord.DigestID(eve)}})
		try(err)
		if err == nil {
			try(again.HandOver(ctx))
		}
		failed := 0
		for _, err := range errs {
			if err != nil {
				failed++
				v.show(err, err.Error())
			}
		}
		if failed < 18 {
			t.Errorf("only %d of %d calls failed: %v", failed, len(errs), errs)
		}
		settings := c.Settings()
		settings.DefaultACL = list
		v.show(settings, &settings, coord.ACLTemplate{Path: "/t", ACL: list})
		stat := c.Status()
		v.show(s, stranger, token, &token, o, &o, c, view, w, ws, list[0], list[0].ID, &list[0].ID, set, create, results, unknown, stat, &stat, view.Digest(), s.Context(), c.Context())
		_, _ = fmt.Fprintf(v, "%v %+v %#v", list, list, list) // handlers of slog take lists apart
		for _, cfg := range configs {
			v.show(cfg, &cfg)
		}
		e.Kill(c)
		c = e.Restart(c)
		if err := c.Ready(ctx); err != nil {
			t.Fatal(err)
		}
	}, coordtest.WithConfig(func(c *coord.Config) {
		c.Logger = slog.New(slog.NewTextHandler(v, &slog.HandlerOptions{Level: slog.Level(-100)}))
		c.AuditLogger = slog.New(slog.NewJSONHandler(v, &slog.HandlerOptions{Level: slog.Level(-100)}))
		c.SuperDigest = coord.DigestID(super).ID
		c.Authenticators = map[string]coord.Authenticator{"jwt": telltale{key}}
	}))
	v.search(t)
	for _, must := range []string{"msg=\"leader changed\"", `"msg":"audit"`, "set ACL", "level=DEBUG"} {
		if !bytes.Contains(v.printed.Bytes(), []byte(must)) {
			t.Errorf("%s was not printed: the test looks in the wrong place", must)
		}
	}
}
