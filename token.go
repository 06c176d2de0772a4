package coord

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
)

// A Token is what resumes a session: the ensemble, the session, and its password.
// Whoever has it can take the session over, so it is a secret. Formatting and
// logging show the session only; [Token.Text] is for keeping it. The zero value
// is the token of no session.
type Token struct {
	ensemble EnsembleID
	session  SessionID
	password secret
}

// tokenPrefix tells a token, and the version of its form, from other text.
const tokenPrefix = "coord1."

const (
	tokenBytes = 8 + 8 + 16 + 4 // ensemble, session, password, checksum
	tokenText  = (tokenBytes*8 + 5) / 6
)

var errTokenIsZero = errors.New("it is the zero Token, which names no session")

// NewToken returns the token that has these parts, for servers whose clients keep them
// by themselves, as ZooKeeper's do.
func NewToken(ensemble EnsembleID, session SessionID, password [16]byte) Token {
	return Token{ensemble: ensemble, session: session, password: newSecret(password)}
}

// Session returns the id of the session that the token resumes.
func (t Token) Session() SessionID { return t.session }

// Password returns the secret part of the token.
func (t Token) Password() [16]byte { return t.password.bytes() }

// String returns the token without its secret, for logs.
func (t Token) String() string { return fmt.Sprintf("token of session %v", t.session) }

// Format implements [fmt.Formatter], so that no verb shows the secret.
func (t Token) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }

// LogValue implements [slog.LogValuer]: handlers would ask for the text otherwise.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// Text returns the token with its secret, in the form that [ParseToken] reads.
func (t Token) Text() string {
	b := make([]byte, 0, tokenBytes)
	b = binary.BigEndian.AppendUint64(b, uint64(t.ensemble))
	b = binary.BigEndian.AppendUint64(b, uint64(t.session))
	password := t.password.bytes()
	b = append(b, password[:]...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// MarshalText implements [encoding.TextMarshaler]. It returns the secret text.
func (t Token) MarshalText() ([]byte, error) {
	if t.session == 0 {
		return nil, fmt.Errorf("coord: token: %w", errTokenIsZero)
	}
	return []byte(t.Text()), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (t *Token) UnmarshalText(text []byte) error {
	parsed, err := ParseToken(string(text))
	if err == nil {
		*t = parsed
	}
	return err
}

// ParseToken reads what [Token.Text] returned. Its errors say what is wrong with
// the text without repeating any of it.
func ParseToken(s string) (Token, error) {
	digits, ok := strings.CutPrefix(s, tokenPrefix)
	switch {
	case s == "":
		return Token{}, errors.New("coord: token: it is empty")
	case !ok:
		return Token{}, fmt.Errorf("coord: token: it does not start with %q", tokenPrefix)
	case len(digits) != tokenText:
		return Token{}, fmt.Errorf("coord: token: %d characters behind %q, want %d", len(digits), tokenPrefix, tokenText)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(digits)
	if err != nil || len(b) != tokenBytes { // the decoder skips line breaks
		return Token{}, errors.New("coord: token: a character in it is not of the base64 alphabet for URLs")
	}
	body, sum := b[:tokenBytes-4], binary.BigEndian.Uint32(b[tokenBytes-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return Token{}, errors.New("coord: token: its checksum does not match: a part of it was changed")
	}
	t := Token{
		ensemble: EnsembleID(binary.BigEndian.Uint64(body)), session: SessionID(binary.BigEndian.Uint64(body[8:])),
		password: newSecret([16]byte(body[16:])),
	}
	if t.session == 0 || t.ensemble == 0 {
		return Token{}, fmt.Errorf("coord: token: %w", errTokenIsZero)
	}
	return t, nil
}
