package lmtpd

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/maildir"
	"postamt/internal/maillog"
	"postamt/internal/smtp"
	"postamt/internal/userdb"
)

// Router takes the mail of a front to the workers that may store it, one for
// each user id, over LMTP: to all recipients' workers at the same time. Each
// recipient's reply is its worker's own. Of a worker that does not answer:
//
//	before the whole message was sent to it    451 4.3.0; it has stored nothing
//	after that                                 451 4.4.2; it may have: the next attempt must be suspect
//
// and the other recipients have their replies as if it were not there. It is
// safe for concurrent use. Its fields are set before that.
//
// Of a message at most a mebibyte is in memory: a worker that takes less than
// the client gives for Patience is dropped.
type Router struct {
	// Connect makes a connection to the worker of a recipient's user. An error
	// that is a *smtp.Reply is what the client is told.
	Connect  func(ctx context.Context, to Rcpt) (net.Conn, error)
	Hostname string        // said in LHLO
	Commands time.Duration // that a command may take, beyond Patience
	Patience time.Duration // with a worker that does nothing; 0: a minute
	Keep     time.Duration // an idle connection is kept so long; 0: 5 s
	Log      *maillog.Logger

	mu   sync.Mutex
	idle map[post][]*wire
}

// post is a worker: that of a user id, or the runner of its commands.
type post struct {
	uid  userdb.ID
	runs bool
}

// maxIdle is how many idle connections to one worker are kept.
const maxIdle = 4

// wire is a connection to a worker.
type wire struct {
	*smtp.Conn
	post   post
	expiry *time.Timer
}

func (r *Router) patience() time.Duration {
	if r.Patience > 0 {
		return r.Patience
	}
	return time.Minute
}

// take gives an idle connection to a worker, nil if there is none that lives.
func (r *Router) take(p post) *wire {
	for {
		r.mu.Lock()
		list := r.idle[p]
		if len(list) == 0 {
			r.mu.Unlock()
			return nil
		}
		w := list[len(list)-1] // the one used last: the others may expire
		r.remove(w)
		r.mu.Unlock()
		w.expiry.Stop()
		if w.alive() {
			return w
		}
		w.Close()
	}
}

// alive: the worker has not closed it, nor said a word that nobody asked for.
func (w *wire) alive() bool {
	u, ok := w.Net().(*net.UnixConn)
	if !ok || w.Buffered() > 0 {
		return false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return false
	}
	err = unix.EBADF
	raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return err == unix.EAGAIN
}

// give keeps a connection for the next message.
func (r *Router) give(w *wire) {
	keep := r.Keep
	if keep == 0 {
		keep = 5 * time.Second
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.idle == nil {
		r.idle = make(map[post][]*wire)
	}
	if len(r.idle[w.post]) >= maxIdle {
		w.Close()
		return
	}
	r.idle[w.post] = append(r.idle[w.post], w)
	w.expiry = time.AfterFunc(keep, func() {
		r.mu.Lock()
		mine := r.remove(w)
		r.mu.Unlock()
		if mine {
			w.Close()
		}
	})
}

// remove takes w out of those that are idle; r is locked.
func (r *Router) remove(w *wire) bool {
	list := r.idle[w.post]
	for i := range list {
		if list[i] != w {
			continue
		}
		if list = append(list[:i], list[i+1:]...); len(list) == 0 {
			delete(r.idle, w.post)
		} else {
			r.idle[w.post] = list
		}
		return true
	}
	return false
}

// CloseIdle closes the connections that no message uses, so that workers may end.
func (r *Router) CloseIdle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, list := range r.idle {
		for _, w := range list {
			w.expiry.Stop()
			w.Close()
		}
	}
	clear(r.idle)
}

// dial makes a connection and says LHLO.
func (r *Router) dial(ctx context.Context, p post, to Rcpt) (*wire, error) {
	nc, err := r.Connect(ctx, to)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: smtp.NewConn(nc), post: p}
	w.SetReadTimeout(r.patience())
	w.SetWriteTimeout(r.patience())
	err = w.WriteLine("LHLO ", r.Hostname)
	for _, want := range []int{220, 250} {
		var reply *smtp.Reply
		if err == nil {
			reply, err = w.ReadReply()
		}
		if err == nil && reply.Code != want {
			err = fmt.Errorf("its greeting is %v", reply)
		}
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return w, nil
}

// routed is a message on its way to workers.
type routed struct {
	stream
	r      *Router
	tx     *transaction
	params smtp.MailParams
	legs   []*leg
	chunk  []byte
	began  bool // the legs run
}

// leg is the way to one worker.
type leg struct {
	d       *routed
	post    post
	rcpts   []int // by index into tx.rcpts
	replies []*smtp.Reply
	done    chan struct{} // closed when there are replies
}

// begin starts a message. trace stands above it.
func (r *Router) begin(tx *transaction, m maildir.Message, trace string) *routed {
	d := &routed{r: r, tx: tx, params: tx.params}
	// Those for reports are the client's business. What has no id of queued's has one of ours now.
	d.params.Ret, d.params.EnvID = "", ""
	d.params.QID, d.params.Arrived = m.ID, m.Arrived.UnixMicro()
	if d.params.Size > 0 {
		d.params.Size += int64(len(trace))
	}
	of := make(map[post]*leg)
	for i := range tx.rcpts {
		p := post{tx.rcpts[i].box.UID, tx.rcpts[i].rcpt().Runs()}
		l := of[p]
		if l == nil {
			l = &leg{d: d, post: p, done: make(chan struct{})}
			of[p] = l
			d.legs = append(d.legs, l)
		}
		l.rcpts = append(l.rcpts, i)
	}
	d.stream.init(len(d.legs), r.patience())
	for line := trace; line != ""; {
		i := 0
		for line[i] != '\n' {
			i++
		}
		d.chunk = append(append(d.chunk, line[:i]...), '\r', '\n')
		line = line[i+1:]
	}
	return d
}

// Write implements delivery.
func (d *routed) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(d.chunk) == chunkSize {
			d.put(d.chunk, false)
			d.chunk = nil
			d.start()
		}
		k := min(chunkSize-len(d.chunk), len(p))
		d.chunk = append(d.chunk, p[:k]...)
		p = p[k:]
	}
	return n, nil
}

func (d *routed) start() {
	if d.began {
		return
	}
	d.began = true
	for i, l := range d.legs {
		go l.run(i)
	}
}

// finish is start when nothing more comes: of a message that fits into one chunk, the first leg needs no goroutine.
func (d *routed) finish() {
	if d.began {
		return
	}
	d.began = true
	for i, l := range d.legs[1:] {
		go l.run(i + 1)
	}
	d.legs[0].run(0)
}

// Abort implements delivery.
func (d *routed) Abort() { d.abort() }

// commit sends the end of the message and gives each recipient's reply, in
// their order, as soon as it is known; wait is called before another must be
// waited for.
func (d *routed) commit(wait func(), reply func(i int, r *smtp.Reply)) {
	d.put(d.chunk, true)
	d.finish()
	of := make([]*smtp.Reply, len(d.tx.rcpts))
	ways := make([]*leg, len(d.tx.rcpts))
	for _, l := range d.legs {
		for _, i := range l.rcpts {
			ways[i] = l
		}
	}
	for i, l := range ways {
		if of[i] == nil {
			select {
			case <-l.done:
			default:
				if i > 0 {
					wait()
				}
				<-l.done
			}
			for k, j := range l.rcpts {
				of[j] = l.replies[k]
			}
		}
		reply(i, of[i])
	}
}
