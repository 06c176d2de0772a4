package script_test

import (
	"testing"

	"coord/conformance/script"
)

// TestPortable checks what becomes of scripts that 3.8.0 would answer in its own way.
func TestPortable(t *testing.T) {
	for name, test := range map[string]struct{ script, want string }{
		"a wrong password where nobody has the session": {
			"b connect\nb drop\na resume from=\"b\" password=\"wrong\"\n",
			"b connect\nb drop\na resume from=\"b\" password=\"wrong\"\n",
		},
		"a wrong password where somebody has the session": {
			"b connect\na resume from=\"b\" password=\"wrong\"\n",
			"b connect\na resume from=\"b\"\n",
		},
		"a wrong password behind a resume that is refused": {
			"b connect\na resume from=\"b\" seen=\"future\"\na resume from=\"b\" password=\"wrong\"\n",
			"b connect\na resume from=\"b\" seen=\"future\"\na resume from=\"b\"\n",
		},
		"a wrong password behind a connect that is refused": {
			"a connect\nb resume from=\"a\"\na connect seen=\"future\"\nc resume from=\"a\" password=\"wrong\"\n",
			"a connect\nb resume from=\"a\"\na connect seen=\"future\"\nc resume from=\"a\"\n",
		},
		"a persistent watch on null": {
			"a connect\na addWatch path=null mode=1\n",
			"a connect\na ping\n",
		},
		"looking for a watch at what is no path": {
			"a connect\na checkWatches path=\"a\" type=3\na checkWatches path=\"~/a\" type=3\n",
			"a connect\na ping\na checkWatches path=\"~/a\" type=3\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := script.Parse(test.script)
			if err != nil {
				t.Fatal(err)
			}
			if got := script.Portable(s).String(); got != test.want {
				t.Errorf("got\n%swant\n%s", got, test.want)
			}
		})
	}
}
