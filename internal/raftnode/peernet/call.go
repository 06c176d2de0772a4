package peernet

import (
	"context"
	"fmt"

	"coord/internal/replica"
)

// The limits of a call.
const (
	MaxMethodBytes = 128     // of a method's name
	MaxBodyBytes   = 4 << 20 // of a request's and of an answer's body
)

// A RemoteError is the error with which another member answered a call.
type RemoteError struct {
	Peer   replica.MemberID
	Method string
	Text   string
}

func (e *RemoteError) Error() string {
	return fmt.Sprintf("peernet: call %q of member %d: %s", e.Method, e.Peer, e.Text)
}

func (ep *endpoint) call(ctx context.Context, to replica.MemberID, method string, body []byte) ([]byte, error) {
	return nil, ErrClosed
}
