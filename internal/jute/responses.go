package jute

// An ACL is one entry of a znode's access control list.
type ACL struct {
	Perms      int32
	Scheme, ID string
}

func appendACL(b []byte, a ACL) []byte {
	return AppendString(AppendString(AppendInt(b, a.Perms), a.Scheme), a.ID)
}

// decodeACLs reads a list. A null scheme or id is an empty one: no ACL has either.
func decodeACLs(d *Decoder) []ACL {
	return vector(d, 12, func(d *Decoder) ACL { return ACL{d.Int(), d.Text(), d.Text()} })
}

// A Stat is what is kept about a znode beside its data.
type Stat struct {
	Czxid, Mzxid, Ctime, Mtime  int64
	Version, Cversion, Aversion int32
	EphemeralOwner              int64
	DataLength, NumChildren     int32
	Pzxid                       int64
}

// AppendTo implements Record.
func (s *Stat) AppendTo(b []byte) []byte {
	for _, v := range [...]int64{s.Czxid, s.Mzxid, s.Ctime, s.Mtime} {
		b = AppendLong(b, v)
	}
	for _, v := range [...]int32{s.Version, s.Cversion, s.Aversion} {
		b = AppendInt(b, v)
	}
	b = AppendLong(b, s.EphemeralOwner)
	b = AppendInt(AppendInt(b, s.DataLength), s.NumChildren)
	return AppendLong(b, s.Pzxid)
}

// DecodeFrom implements Record.
func (s *Stat) DecodeFrom(d *Decoder) {
	*s = Stat{
		d.Long(), d.Long(), d.Long(), d.Long(), d.Int(), d.Int(), d.Int(), d.Long(), d.Int(), d.Int(), d.Long(),
	}
}

// A CreateResponse is the answer of create.
type CreateResponse struct{ Path string }

// AppendTo implements Record.
func (r *CreateResponse) AppendTo(b []byte) []byte { return AppendString(b, r.Path) }

// DecodeFrom implements Record.
func (r *CreateResponse) DecodeFrom(d *Decoder) { r.Path = d.String() }

// A Create2Response is the answer of create2, createContainer and createTTL.
type Create2Response struct {
	Path string
	Stat Stat
}

// AppendTo implements Record.
func (r *Create2Response) AppendTo(b []byte) []byte {
	return r.Stat.AppendTo(AppendString(b, r.Path))
}

// DecodeFrom implements Record.
func (r *Create2Response) DecodeFrom(d *Decoder) {
	r.Path = d.String()
	r.Stat.DecodeFrom(d)
}

// A StatResponse is the answer of exists, setData and setACL.
type StatResponse struct{ Stat Stat }

// AppendTo implements Record.
func (r *StatResponse) AppendTo(b []byte) []byte { return r.Stat.AppendTo(b) }

// DecodeFrom implements Record.
func (r *StatResponse) DecodeFrom(d *Decoder) { r.Stat.DecodeFrom(d) }

// A GetDataResponse is the answer of getData and reconfig.
type GetDataResponse struct {
	Data []byte
	Stat Stat
}

// AppendTo implements Record.
func (r *GetDataResponse) AppendTo(b []byte) []byte {
	return r.Stat.AppendTo(AppendBuffer(b, r.Data))
}

// DecodeFrom implements Record.
func (r *GetDataResponse) DecodeFrom(d *Decoder) {
	r.Data = d.Buffer()
	r.Stat.DecodeFrom(d)
}

// A GetACLResponse is the answer of getACL.
type GetACLResponse struct {
	ACL  []ACL
	Stat Stat
}

// AppendTo implements Record.
func (r *GetACLResponse) AppendTo(b []byte) []byte {
	return r.Stat.AppendTo(appendVector(b, r.ACL, appendACL))
}

// DecodeFrom implements Record.
func (r *GetACLResponse) DecodeFrom(d *Decoder) {
	r.ACL = decodeACLs(d)
	r.Stat.DecodeFrom(d)
}

// A StringsResponse is the answer of getChildren and getEphemerals.
type StringsResponse struct{ Strings []string }

// AppendTo implements Record.
func (r *StringsResponse) AppendTo(b []byte) []byte { return AppendStrings(b, r.Strings) }

// DecodeFrom implements Record.
func (r *StringsResponse) DecodeFrom(d *Decoder) { r.Strings = d.Strings() }

// A GetChildren2Response is the answer of getChildren2.
type GetChildren2Response struct {
	Children []string
	Stat     Stat
}

// AppendTo implements Record.
func (r *GetChildren2Response) AppendTo(b []byte) []byte {
	return r.Stat.AppendTo(AppendStrings(b, r.Children))
}

// DecodeFrom implements Record.
func (r *GetChildren2Response) DecodeFrom(d *Decoder) {
	r.Children = d.Strings()
	r.Stat.DecodeFrom(d)
}

// An IntResponse is the answer of getAllChildrenNumber, of addWatch, which is 0, and
// the body of a failed operation of a multi, which is its code.
type IntResponse struct{ Value int32 }

// AppendTo implements Record.
func (r *IntResponse) AppendTo(b []byte) []byte { return AppendInt(b, r.Value) }

// DecodeFrom implements Record.
func (r *IntResponse) DecodeFrom(d *Decoder) { r.Value = d.Int() }

// A ClientInfo is one identity in a WhoAmIResponse.
type ClientInfo struct{ Scheme, User string }

// A WhoAmIResponse is the answer of whoAmI.
type WhoAmIResponse struct{ Clients []ClientInfo }

// AppendTo implements Record.
func (r *WhoAmIResponse) AppendTo(b []byte) []byte {
	return appendVector(b, r.Clients, func(b []byte, c ClientInfo) []byte {
		return AppendString(AppendString(b, c.Scheme), c.User)
	})
}

// DecodeFrom implements Record.
func (r *WhoAmIResponse) DecodeFrom(d *Decoder) {
	r.Clients = vector(d, 8, func(d *Decoder) ClientInfo { return ClientInfo{d.Text(), d.Text()} })
}

// A WatcherEvent is the body of a notification.
type WatcherEvent struct {
	Type  int32
	State int32
	Path  string
}

// AppendTo implements Record.
func (r *WatcherEvent) AppendTo(b []byte) []byte {
	return AppendString(AppendInt(AppendInt(b, r.Type), r.State), r.Path)
}

// DecodeFrom implements Record.
func (r *WatcherEvent) DecodeFrom(d *Decoder) { *r = WatcherEvent{d.Int(), d.Int(), d.String()} }
