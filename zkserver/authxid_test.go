package zkserver_test

import (
	"testing"

	"coord/internal/jute"
)

// TestAuthUnderAnyXid has an auth request be answered under the xid that it had: Go's
// client gives it one like any other request, and waits for that for ever.
func TestAuthUnderAnyXid(t *testing.T) {
	c := dialRaw(t, serveWords(t, nil))
	c.ask(t, jute.OpAuth, &jute.AuthRequest{Scheme: "digest", Auth: []byte("user:password")})
	c.ask(t, jute.OpWhoAmI, &jute.ReadRequest{})
}
