package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"coord"
)

// A Report is what a member's own tree looks like at one zxid.
type Report struct {
	ZXID   coord.ZXID
	Digest string
	Znodes []Compared // in the order of their paths
}

// A Compared is one znode beside the file or directory that it came from.
type Compared struct {
	Path  string
	Sum   string // checksum of the data; "" if they are null
	Fault string // what is different on the disk; "" if nothing
}

// Compare compares every znode of this member's tree, byte for byte, with the
// directory.
func (m *member) Compare(dir string, r *Report) error {
	v, err := m.c.View(m.ctx, coord.Linearizable())
	if err != nil {
		return err
	}
	*r = Report{ZXID: v.ZXID(), Digest: v.Digest().String()}
	for z := range v.Walk(filesRoot) {
		c := Compared{Path: z.Path, Fault: fault(diskPath(dir, z.Path), z.Data)}
		if z.Data != nil {
			c.Sum = checksum(z.Data)
		}
		r.Znodes = append(r.Znodes, c)
	}
	return nil
}

// fault says how a file, or a directory if data are null, differs.
func fault(file string, data []byte) string {
	if data == nil {
		info, err := os.Stat(file)
		switch {
		case err != nil:
			return err.Error()
		case !info.IsDir():
			return "is no directory on the disk"
		}
		return ""
	}
	onDisk, err := os.ReadFile(file)
	switch {
	case err != nil:
		return err.Error()
	case !bytes.Equal(onDisk, data):
		return fmt.Sprintf("has %d bytes, and others than the %d on the disk", len(data), len(onDisk))
	}
	return ""
}

// differences compares a report with what was acknowledged and yields a line for
// each difference. acked maps paths to checksums.
func differences(acked map[string]string, r *Report) []string {
	var lines []string
	missing := maps.Clone(acked)
	for _, z := range r.Znodes {
		want, ok := acked[z.Path]
		delete(missing, z.Path)
		switch {
		case !ok:
			lines = append(lines, fmt.Sprintf("%q was never written", z.Path))
		case z.Sum != want:
			lines = append(lines, fmt.Sprintf("%q differs from what was acknowledged", z.Path))
		case z.Fault != "":
			lines = append(lines, fmt.Sprintf("%q is as it was acknowledged, but the disk has changed: %s", z.Path, z.Fault))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(missing)) {
		lines = append(lines, fmt.Sprintf("%q was acknowledged and is lost", path))
	}
	return lines
}

// compareAll has every member compare its tree with the directory, until all
// reports are of the same zxid: a session that expires between two of them is a
// write.
func compareAll(ctx context.Context, members []*process, dir string) ([]Report, error) {
	for {
		reports := make([]Report, len(members))
		err := each(members, func(p *process) error {
			return p.call(ctx, "Compare", dir, &reports[slices.Index(members, p)])
		})
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(reports, func(r Report) bool { return r.ZXID != reports[0].ZXID }) {
			return reports, nil
		}
	}
}
