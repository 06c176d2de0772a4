package script_test

import (
	"reflect"
	"testing"

	"coord/conformance/script"
)

const all = `a connect timeout=5000
a create path="~/x" data=null acl="31:world:anyone" flags=3
a multi { create path="~/x y\n" data="\x01 } ;" ; check path="~" version=-1 } &
a multi { }
b resume from="a" password="wrong" old
b setWatches2 since="m" dataWatches="~/a","~/b" existWatches=null
b getData path=null watch
`

func TestParse(t *testing.T) {
	s, err := script.Parse(all)
	if err != nil {
		t.Fatal(err)
	}
	if text := s.String(); text != all {
		t.Errorf("got\n%swant\n%s", text, all)
	}
	again, err := script.Parse("# as before\n\n" + s.String())
	if err != nil || !reflect.DeepEqual(s, again) {
		t.Errorf("parsed again: %v\n%v", err, again)
	}
	for _, bad := range []string{"a", "a fly", "a create path=x", "a create colour=1", "a multi { create", "a ping &\nb ping", "a ping ping"} {
		if s, err := script.Parse(bad); err == nil {
			t.Errorf("%q is %v", bad, s)
		}
	}
}
