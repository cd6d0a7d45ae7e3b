package queued

import (
	"context"
	"errors"
	"strconv"

	"postamt/internal/remote"
	"postamt/internal/smtp"
)

// Post is the Courier of the real world: name servers and connections.
type Post struct {
	Lookup remote.Lookup
	Find   remote.FindOptions
	Pool   *remote.Pool // to other hosts, and to LMTP servers that routes name
	Local  *remote.Pool // to the local delivery agent: kept open longer
}

// Deliver finds the hosts of a destination and sends. That there are none is an outcome of StageConnect.
func (p *Post) Deliver(ctx context.Context, to Destination, tx *remote.Transaction) []remote.Outcome {
	eps, err := p.Hosts(ctx, to)
	if err != nil {
		r := asReply(err)
		out := make([]remote.Outcome, len(tx.Rcpts))
		for i := range out {
			out[i] = remote.Outcome{Kind: kindOf(r), Stage: remote.StageConnect, Reply: r, Local: true}
		}
		return out
	}
	if to.Local {
		return p.Local.Deliver(ctx, eps, tx)
	}
	return p.Pool.Deliver(ctx, eps, tx)
}

// Hosts are where to connect to for a destination, in the order to try them. The error is a *smtp.Reply.
func (p *Post) Hosts(ctx context.Context, to Destination) ([]remote.Endpoint, error) {
	return remote.Find(ctx, p.Lookup, hop(to), p.Find)
}

// Close takes leave of idle connections; transactions under way go on, and their connections are not kept.
func (p *Post) Close() {
	p.Pool.Close()
	p.Local.Close()
}

func hop(to Destination) remote.Hop {
	t := to.Next
	h := remote.Hop{Host: t.Host, MX: t.Kind == "mx", Socket: t.Socket, LMTP: t.Kind == "lmtp", Configured: !t.ByDomain()}
	if t.ByDomain() {
		h.Host = to.Domain
	}
	port, _ := strconv.ParseUint(t.Port, 10, 16) // checked when it was read; "" is 0, the default
	h.Port = uint16(port)
	if h.Port == 0 && h.LMTP {
		h.Port = 24
	}
	return h
}

// asReply keeps a reply that an error carries; any other error is temporary: we do not know better.
func asReply(err error) *smtp.Reply {
	if r, ok := errors.AsType[*smtp.Reply](err); ok {
		return r
	}
	return smtp.NewReply(451, "4.3.0", err.Error())
}
