package coord_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"coord"
)

// aToken is that of session 0x2a of ensemble 7.
const aToken = "coord1.AAAAAAAAAAcAAAAAAAAAKnNlc3JldHNlc3JldHNlY3K0dR14"

func mustToken(tb testing.TB) coord.Token {
	tb.Helper()
	tok, err := coord.ParseToken(aToken)
	if err != nil {
		tb.Fatal(err)
	}
	return tok
}

func TestTokenText(t *testing.T) {
	tok := mustToken(t)
	if tok.Text() != aToken || tok.Session() != 0x2a {
		t.Errorf("Text = %q of session %v", tok.Text(), tok.Session())
	}
	b, err := json.Marshal(map[string]coord.Token{"token": tok})
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]coord.Token
	if err := json.Unmarshal(b, &back); err != nil || back["token"] != tok {
		t.Errorf("through JSON: %v, %v", back, err)
	}
	if _, err := (coord.Token{}).MarshalText(); err == nil {
		t.Error("the zero Token was marshalled")
	}
}

// What is written about a token must not show its secret, by whatever road.
func TestTokenIsNotShown(t *testing.T) {
	tok := mustToken(t)
	const want = "token of session 0x000000000000002a"
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
		for _, v := range []any{tok, &tok} {
			if got := fmt.Sprintf(verb, v); got != want {
				t.Errorf("%s of %T shows %q", verb, v, got)
			}
		}
	}
	// Nobody's methods are asked about a field that is not exported.
	type server struct {
		tok  coord.Token
		list []coord.Token
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		got := fmt.Sprintf(verb, server{tok, []coord.Token{tok}})
		for _, secret := range []string{"115 101 115", "sesret", "736573", "73 65 73", "0x73, 0x65", "'s' 'e'"} {
			if strings.Contains(strings.ToLower(got), secret) {
				t.Errorf("%s of a struct with a token shows %q", verb, got)
			}
		}
	}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("it", slog.Any("token", tok))
	}
	if strings.Contains(log.String(), "coord1.") || strings.Count(log.String(), want) != 2 {
		t.Errorf("the log shows\n%s", &log)
	}
}

func TestParseTokenSaysWhatIsWrong(t *testing.T) {
	digits := strings.TrimPrefix(aToken, "coord1.")
	for text, want := range map[string]string{
		"":                                  "it is empty",
		digits:                              `does not start with "coord1."`,
		"coord2." + digits:                  `does not start with "coord1."`,
		"coord1." + digits[1:]:              "47 characters behind",
		aToken + "\n":                       "49 characters behind",
		"coord1.!" + digits[1:]:             "not of the base64 alphabet",
		"coord1.B" + digits[1:]:             "checksum does not match",
		(coord.Token{}).Text():              "names no session",
		strings.Replace(aToken, "n", "", 1): "47 characters behind",
	} {
		_, err := coord.ParseToken(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseToken of %d characters = %v, want %q", len(text), err, want)
			continue
		}
		for i := 0; i+6 <= len(digits); i++ {
			if strings.Contains(err.Error(), digits[i:i+6]) {
				t.Errorf("the error repeats a part of the token: %v", err)
				break
			}
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(aToken)
	f.Add("coord1.")
	f.Fuzz(func(t *testing.T, s string) {
		if tok, err := coord.ParseToken(s); err == nil && tok.Text() != s {
			t.Errorf("ParseToken(%q).Text() = %q", s, tok.Text())
		}
	})
}
