package discovery

import (
	"reflect"
	"strings"
	"testing"

	"coord"
)

// FuzzInstance reads what anybody may have put into the znode of an instance.
func FuzzInstance(f *testing.F) {
	f.Add([]byte(`{"id":"a","host":"h","port":80,"weight":1,"metadata":{"k":"v"}}`))
	f.Add([]byte(`{"port":-1}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := codec{}.Decode(data)
		if err != nil {
			return
		}
		b, err := codec{}.Encode(in)
		if err != nil {
			t.Fatalf("%+v is read and cannot be written: %v", in, err)
		}
		if again, err := (codec{}).Decode(b); err != nil || !reflect.DeepEqual(again, in) {
			t.Fatalf("round trip: %+v, %v; want %+v", again, err, in)
		}
	})
}

// FuzzPlace sees that names lead to a child of the directory, which an instance can be
// a child of, and nowhere else.
func FuzzPlace(f *testing.F) {
	f.Add("/services", "billing", "a")
	f.Add("/services", "..", "a/b")
	f.Add("/", "", "\x00")
	f.Fuzz(func(t *testing.T, root, service, id string) {
		path, err := place(root, service, id)
		if err != nil {
			return
		}
		if !coord.ValidPath(path) || path != strings.TrimSuffix(root, "/")+"/"+service || !coord.ValidPath(path+"/"+id) || strings.Contains(service+id, "/") {
			t.Fatalf("place(%q, %q, %q) = %q", root, service, id, path)
		}
	})
}
