package jute

// The xids that are no client's own.
const (
	XidNotification int32 = -1
	XidPing         int32 = -2
	XidAuth         int32 = -4
	XidSetWatches   int32 = -8
)

// StateSyncConnected is the state in every notification of a server.
const StateSyncConnected int32 = 3

// PasswordBytes is the length of a session's password.
const PasswordBytes = 16

// A ConnectRequest is the first frame of a client, without a header.
type ConnectRequest struct {
	ProtocolVersion int32
	LastZxidSeen    int64
	TimeoutMS       int32
	SessionID       int64 // 0: a new session
	Password        []byte
	ReadOnly        bool // a server without a quorum will do

	// Short says that the last byte is missing, as in clients before 3.4. The answer
	// leaves it out then as well.
	Short bool
}

// AppendTo implements Record.
func (r *ConnectRequest) AppendTo(b []byte) []byte {
	b = AppendInt(b, r.ProtocolVersion)
	b = AppendLong(b, r.LastZxidSeen)
	b = AppendInt(b, r.TimeoutMS)
	b = AppendLong(b, r.SessionID)
	b = AppendBuffer(b, r.Password)
	if r.Short {
		return b
	}
	return AppendBool(b, r.ReadOnly)
}

// DecodeFrom implements Record.
func (r *ConnectRequest) DecodeFrom(d *Decoder) {
	*r = ConnectRequest{
		ProtocolVersion: d.Int(), LastZxidSeen: d.Long(), TimeoutMS: d.Int(), SessionID: d.Long(), Password: d.Buffer(),
	}
	if len(d.rest) == 0 {
		r.Short = true
		return
	}
	r.ReadOnly = d.Bool()
}

// A ConnectResponse answers a ConnectRequest, without a header.
type ConnectResponse struct {
	ProtocolVersion int32
	TimeoutMS       int32 // 0: there is no such session any more
	SessionID       int64
	Password        []byte
	ReadOnly        bool // this server has no quorum
	Short           bool // see ConnectRequest
}

// AppendTo implements Record.
func (r *ConnectResponse) AppendTo(b []byte) []byte {
	b = AppendInt(b, r.ProtocolVersion)
	b = AppendInt(b, r.TimeoutMS)
	b = AppendLong(b, r.SessionID)
	b = AppendBuffer(b, r.Password)
	if r.Short {
		return b
	}
	return AppendBool(b, r.ReadOnly)
}

// DecodeFrom implements Record.
func (r *ConnectResponse) DecodeFrom(d *Decoder) {
	*r = ConnectResponse{ProtocolVersion: d.Int(), TimeoutMS: d.Int(), SessionID: d.Long(), Password: d.Buffer()}
	if len(d.rest) == 0 {
		r.Short = true
		return
	}
	r.ReadOnly = d.Bool()
}

// A RequestHeader begins every request.
type RequestHeader struct {
	Xid int32
	Op  Op
}

// AppendTo implements Record.
func (r *RequestHeader) AppendTo(b []byte) []byte {
	return AppendInt(AppendInt(b, r.Xid), int32(r.Op))
}

// DecodeFrom implements Record.
func (r *RequestHeader) DecodeFrom(d *Decoder) { *r = RequestHeader{d.Int(), Op(d.Int())} }

// A ReplyHeader begins every answer. If Err is not OK, nothing follows.
type ReplyHeader struct {
	Xid  int32
	Zxid int64
	Err  Code
}

// ReplyHeaderBytes is the length of a ReplyHeader.
const ReplyHeaderBytes = 16

// AppendTo implements Record.
func (r *ReplyHeader) AppendTo(b []byte) []byte {
	return AppendInt(AppendLong(AppendInt(b, r.Xid), r.Zxid), int32(r.Err))
}

// DecodeFrom implements Record.
func (r *ReplyHeader) DecodeFrom(d *Decoder) { *r = ReplyHeader{d.Int(), d.Long(), Code(d.Int())} }
