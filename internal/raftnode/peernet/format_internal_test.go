package peernet

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"
)

// What goes over the network is what other versions of this package expect: a
// change of these bytes is a new protocolVersion, and one of the openings'
// shape is not possible any more.
func TestFormat(t *testing.T) {
	hello := Hello{
		Version: 1, Ensemble: "orders", Member: 2, Directory: directoryOf(2), Addr: "b:7000", Purpose: ForSnapshot, Wanted: 1,
	}
	for name, tt := range map[string]struct {
		got  []byte
		want string
	}{
		"hello":   {encodeOpening(helloOpening(hello)), "636f6f72642f706565720a0001010047020000000000000002000000000000000100066f7264657273002430303030303030302d303030302d343030302d383030302d3030303030303030303030320006623a3730303083c496fe"},
		"refusal": {encodeOpening(refusalOpening("no")), "636f6f72642f706565720a00010200026e6ffa715260"},
		"frame":   {aFrame(frameError, []byte("no")), "0600000000000002baf36f18134cbf676e6f"},
		"request": {appendRequest(nil, request{timeout: time.Second, method: "status", body: []byte("x")}), "000003e80673746174757378"},
	} {
		if want, err := hex.DecodeString(tt.want); err != nil || !bytes.Equal(tt.got, want) {
			t.Errorf("%s is\n%x, want\n%s", name, tt.got, tt.want)
		}
	}
}
