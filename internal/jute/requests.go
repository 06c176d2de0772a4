package jute

// A CreateRequest is the request of create, create2 and createContainer.
type CreateRequest struct {
	Path  string
	Data  []byte
	ACL   []ACL
	Flags int32 // the mode
}

// AppendTo implements Record.
func (r *CreateRequest) AppendTo(b []byte) []byte {
	b = AppendString(b, r.Path)
	b = AppendBuffer(b, r.Data)
	b = appendVector(b, r.ACL, appendACL)
	return AppendInt(b, r.Flags)
}

// DecodeFrom implements Record.
func (r *CreateRequest) DecodeFrom(d *Decoder) {
	*r = CreateRequest{d.String(), d.Buffer(), decodeACLs(d), d.Int()}
}

// A CreateTTLRequest is the request of createTTL.
type CreateTTLRequest struct {
	CreateRequest

	TTL int64 // milliseconds
}

// AppendTo implements Record.
func (r *CreateTTLRequest) AppendTo(b []byte) []byte {
	return AppendLong(r.CreateRequest.AppendTo(b), r.TTL)
}

// DecodeFrom implements Record.
func (r *CreateTTLRequest) DecodeFrom(d *Decoder) {
	r.CreateRequest.DecodeFrom(d)
	r.TTL = d.Long()
}

// A VersionRequest is the request of delete and check.
type VersionRequest struct {
	Path    string
	Version int32
}

// AppendTo implements Record.
func (r *VersionRequest) AppendTo(b []byte) []byte {
	return AppendInt(AppendString(b, r.Path), r.Version)
}

// DecodeFrom implements Record.
func (r *VersionRequest) DecodeFrom(d *Decoder) { *r = VersionRequest{d.String(), d.Int()} }

// A PathRequest is the request of getACL, getAllChildrenNumber and deleteContainer.
type PathRequest struct{ Path string }

// AppendTo implements Record.
func (r *PathRequest) AppendTo(b []byte) []byte { return AppendString(b, r.Path) }

// DecodeFrom implements Record.
func (r *PathRequest) DecodeFrom(d *Decoder) { r.Path = d.String() }

// A PrefixRequest is the request of getEphemerals. A null prefix is the empty one.
type PrefixRequest struct{ Prefix string }

// AppendTo implements Record.
func (r *PrefixRequest) AppendTo(b []byte) []byte { return AppendString(b, r.Prefix) }

// DecodeFrom implements Record.
func (r *PrefixRequest) DecodeFrom(d *Decoder) { r.Prefix = d.Text() }

// A ReadRequest is the request of exists, getData, getChildren and getChildren2.
type ReadRequest struct {
	Path  string
	Watch bool
}

// AppendTo implements Record.
func (r *ReadRequest) AppendTo(b []byte) []byte { return AppendBool(AppendString(b, r.Path), r.Watch) }

// DecodeFrom implements Record.
func (r *ReadRequest) DecodeFrom(d *Decoder) { *r = ReadRequest{d.String(), d.Bool()} }

// A SetDataRequest is the request of setData. A null path is the empty one, as which it is
// refused, but in a MultiRequest.
type SetDataRequest struct {
	Path    string
	Data    []byte
	Version int32
}

// AppendTo implements Record.
func (r *SetDataRequest) AppendTo(b []byte) []byte {
	return AppendInt(AppendBuffer(AppendString(b, r.Path), r.Data), r.Version)
}

// DecodeFrom implements Record.
func (r *SetDataRequest) DecodeFrom(d *Decoder) {
	*r = SetDataRequest{d.Text(), d.Buffer(), d.Int()}
}

// A SetACLRequest is the request of setACL. A null path is the empty one, as which it is
// refused.
type SetACLRequest struct {
	Path    string
	ACL     []ACL
	Version int32
}

// AppendTo implements Record.
func (r *SetACLRequest) AppendTo(b []byte) []byte {
	return AppendInt(appendVector(AppendString(b, r.Path), r.ACL, appendACL), r.Version)
}

// DecodeFrom implements Record.
func (r *SetACLRequest) DecodeFrom(d *Decoder) {
	*r = SetACLRequest{d.Text(), decodeACLs(d), d.Int()}
}

// A SyncRecord is the request of sync, and its answer, which repeats the path,
// whatever it is.
type SyncRecord struct{ Path *string }

// AppendTo implements Record.
func (r *SyncRecord) AppendTo(b []byte) []byte { return AppendNullString(b, r.Path) }

// DecodeFrom implements Record.
func (r *SyncRecord) DecodeFrom(d *Decoder) { r.Path = d.NullString() }

// A ReconfigRequest is the request of reconfig.
type ReconfigRequest struct {
	Joining, Leaving, NewMembers *string
	ConfigID                     int64 // -1: whatever it is now
}

// AppendTo implements Record.
func (r *ReconfigRequest) AppendTo(b []byte) []byte {
	b = AppendNullString(b, r.Joining)
	b = AppendNullString(b, r.Leaving)
	b = AppendNullString(b, r.NewMembers)
	return AppendLong(b, r.ConfigID)
}

// DecodeFrom implements Record.
func (r *ReconfigRequest) DecodeFrom(d *Decoder) {
	*r = ReconfigRequest{d.NullString(), d.NullString(), d.NullString(), d.Long()}
}

// A WatchRequest is the request of removeWatches, whose Type is a type of watcher, and of
// addWatch, whose Type is a mode. A null path is the empty one.
type WatchRequest struct {
	Path string
	Type int32
}

// The modes of addWatch.
const (
	ModePersistent          int32 = 0
	ModePersistentRecursive int32 = 1
)

// AppendTo implements Record.
func (r *WatchRequest) AppendTo(b []byte) []byte { return AppendInt(AppendString(b, r.Path), r.Type) }

// DecodeFrom implements Record.
func (r *WatchRequest) DecodeFrom(d *Decoder) { *r = WatchRequest{d.Text(), d.Int()} }

// A CheckWatchesRequest is the request of checkWatches, which has to have a path.
type CheckWatchesRequest struct{ WatchRequest }

// DecodeFrom implements Record.
func (r *CheckWatchesRequest) DecodeFrom(d *Decoder) {
	r.WatchRequest = WatchRequest{d.String(), d.Int()}
}

// A SetWatchesRequest is the request of setWatches.
type SetWatchesRequest struct {
	RelativeZxid       int64
	Data, Exist, Child []string
}

// AppendTo implements Record.
func (r *SetWatchesRequest) AppendTo(b []byte) []byte {
	b = AppendLong(b, r.RelativeZxid)
	b = AppendStrings(b, r.Data)
	b = AppendStrings(b, r.Exist)
	return AppendStrings(b, r.Child)
}

// DecodeFrom implements Record.
func (r *SetWatchesRequest) DecodeFrom(d *Decoder) {
	*r = SetWatchesRequest{d.Long(), d.Strings(), d.Strings(), d.Strings()}
}

// A SetWatches2Request is the request of setWatches2.
type SetWatches2Request struct {
	SetWatchesRequest

	Persistent, PersistentRecursive []string
}

// AppendTo implements Record.
func (r *SetWatches2Request) AppendTo(b []byte) []byte {
	b = r.SetWatchesRequest.AppendTo(b)
	b = AppendStrings(b, r.Persistent)
	return AppendStrings(b, r.PersistentRecursive)
}

// DecodeFrom implements Record.
func (r *SetWatches2Request) DecodeFrom(d *Decoder) {
	r.SetWatchesRequest.DecodeFrom(d)
	r.Persistent, r.PersistentRecursive = d.Strings(), d.Strings()
}

// An AuthRequest is the request of auth.
type AuthRequest struct {
	Type   int32 // 0
	Scheme string
	Auth   []byte
}

// AppendTo implements Record.
func (r *AuthRequest) AppendTo(b []byte) []byte {
	return AppendBuffer(AppendString(AppendInt(b, r.Type), r.Scheme), r.Auth)
}

// DecodeFrom implements Record.
func (r *AuthRequest) DecodeFrom(d *Decoder) { *r = AuthRequest{d.Int(), d.String(), d.Buffer()} }

// A SASLRecord is the request of sasl, and its answer.
type SASLRecord struct{ Token []byte }

// AppendTo implements Record.
func (r *SASLRecord) AppendTo(b []byte) []byte { return AppendBuffer(b, r.Token) }

// DecodeFrom implements Record.
func (r *SASLRecord) DecodeFrom(d *Decoder) { r.Token = d.Buffer() }
