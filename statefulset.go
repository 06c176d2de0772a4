package coord

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// StatefulSet returns the configuration of a member that runs in a pod of a
// Kubernetes StatefulSet: the pod name-i is the member i+1 and is reached at
// name-i.name:port, the address that a headless service of the same name gives
// it. Dir is left to the caller: a persistent volume of the pod. So is TLS, or
// Insecure: the addresses can be reached by the whole cluster, so that [Open]
// refuses plaintext. A certificate must be valid for name-i.name, or all of them
// for one name that TLS.ServerName gives.
//
// At their first start the members wait for each other, so the set needs
// podManagementPolicy: Parallel, and the service publishNotReadyAddresses: true.
//
// replicas is the number of members that the ensemble starts with; pods beyond it
// are refused. It fails if this host is not called name-i.
func StatefulSet(name string, replicas, port int) (Config, error) {
	host, err := os.Hostname()
	if err != nil {
		return Config{}, fmt.Errorf("coord: stateful set %q: %w", name, err)
	}
	return statefulSet(host, name, replicas, port)
}

func statefulSet(host, name string, replicas, port int) (Config, error) {
	if replicas < 1 || replicas > maxMembers {
		return Config{}, fmt.Errorf("coord: stateful set %q: %d replicas, want 1 to %d", name, replicas, maxMembers)
	}
	if port < 1 || port > 65535 {
		return Config{}, fmt.Errorf("coord: stateful set %q: port %d, want 1 to 65535", name, port)
	}
	pod, _, _ := strings.Cut(host, ".")
	digits, ok := strings.CutPrefix(pod, name+"-")
	ordinal, err := strconv.Atoi(digits)
	if !ok || err != nil || ordinal < 0 || strconv.Itoa(ordinal) != digits {
		return Config{}, fmt.Errorf("coord: stateful set %q: the host is called %q, want %s-0 to %s-%d", name, host, name, name, replicas-1)
	}
	if ordinal >= replicas {
		return Config{}, fmt.Errorf("coord: stateful set %q: pod %q is not among the %d initial members", name, pod, replicas)
	}
	cfg := Config{Name: name, ID: MemberID(ordinal + 1), Listen: fmt.Sprintf("0.0.0.0:%d", port)}
	for i := range replicas {
		cfg.InitialMembers = append(cfg.InitialMembers, Member{ID: MemberID(i + 1), Addr: fmt.Sprintf("%s-%d.%s:%d", name, i, name, port)})
	}
	return cfg, nil
}
