//go:build linux

// Package lan makes a small network on this machine whose weather can be chosen:
// hosts with addresses and TCP stacks of their own, for real processes, between
// which packets are delayed, lost, repeated, damaged and cut off, each direction by
// itself.
//
// A host is a network namespace with one TUN device, whose other end this process
// holds. It forwards what the host sends to the host that it is for, through the
// [Weather] of that direction: a switch in user space, which needs nothing of the
// kernel's traffic control. It needs the right to make network namespaces, and the
// program ip of iproute2.
//
// Nothing of it is reachable from elsewhere: the only devices are those of the
// namespaces, and the only way between two of them leads through this process. When
// it ends, however it ends, the devices vanish with it; [LAN.Close] removes the
// namespaces, too.
package lan
