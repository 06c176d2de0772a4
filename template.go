package coord

import (
	"context"
	"fmt"
	"slices"
)

// An ACLTemplate is the access control list of whatever is created at a path and
// below, as [Coordinator.SetACLTemplate] has set it.
type ACLTemplate struct {
	Path     string
	ACL      []ACL
	Enforced bool
}

// A TemplateOption is an option of [Coordinator.SetACLTemplate].
type TemplateOption interface{ applyTemplate(*template) }

type templateFunc func(*template)

func (f templateFunc) applyTemplate(t *template) { f(t) }

// Enforced makes a template hold for znodes as well that are created with an ACL of
// their own, which is checked and then ignored. ZooKeeper's clients name one always.
func Enforced() TemplateOption { return templateFunc(func(t *template) { t.enforced = true }) }

// SetACLTemplate sets the access control list of what is created from now on at path or
// below it without one: ZooKeeper's ACLs are not inherited, so a subtree of somebody's
// would otherwise need the same list in every create. Of several templates that of the
// nearest ancestor counts, the znode's own path being the nearest; a sequential znode's
// begins with its parent, because nobody knows its name before. Parents that are made
// on the way follow the rule for their own paths. The path need not exist, and znodes
// that do exist keep the lists that they have.
//
// The scheme auth in a template stands for every identity that the creator has proved,
// so that what each creates below is its own; whoever has proved none is refused with
// [ErrInvalidACL]. An empty list removes the template. Only code of the members can set
// templates. A template decides what a new znode's list is, and not who may change it
// later: leave [PermAdmin] out of it if clients must not.
//
// Errors: [ErrBadArguments] (path), [ErrInvalidACL], [ErrTooLarge] beyond 10000
// templates, [ErrNoSpace], and those of every write, see [Client].
func (c *Coordinator) SetACLTemplate(ctx context.Context, path string, list []ACL, opts ...TemplateOption) error {
	fail := func(err error, detail string) error {
		return &OpError{Op: "setACLTemplate", Path: path, Err: err, Detail: detail}
	}
	t := template{path: path, list: slices.Clone(list)}
	for _, opt := range opts {
		opt.applyTemplate(&t)
	}
	if fault := pathFault(path); fault != "" {
		return fail(ErrBadArguments, fault)
	}
	if fault := aclFault(list); fault != "" {
		return fail(ErrInvalidACL, fault)
	}
	if err := c.govern(ctx, request{kind: requestSetTemplate, template: &t}); err != nil {
		return fail(err, "")
	}
	return nil
}

// ACLTemplates returns the templates as this member knows them, sorted by the bytes of
// their paths. They are the caller's. It fails with [ErrSuspended].
func (c *Coordinator) ACLTemplates(ctx context.Context) ([]ACLTemplate, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OperationTimeout, ErrTimeout)
	defer cancel()
	s, err := c.root.readable(ctx, readOptions{})
	if err != nil {
		return nil, &OpError{Op: "aclTemplates", Err: err}
	}
	var all []ACLTemplate
	for it := range s.templates.byPath.all() {
		all = append(all, ACLTemplate{Path: it.path, ACL: slices.Clone(it.t.list), Enforced: it.t.enforced})
	}
	return all, nil
}

// aclFault says what no member would read in a list, or nothing.
func aclFault(list []ACL) string {
	if len(list) > maxACLEntries {
		return fmt.Sprintf("%d entries, the limit is %d", len(list), maxACLEntries)
	}
	for i, a := range list {
		if n := max(len(a.ID.ID), len(a.ID.Scheme)); n > maxIDBytes {
			return fmt.Sprintf("entry %d has an identity of %d bytes, the limit is %d", i, n, maxIDBytes)
		}
	}
	return ""
}
