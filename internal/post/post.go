// Package post makes of a configuration what queued sends mail by, for it and for who wants to know where that would be.
package post

import (
	"net"
	"net/netip"
	"time"

	"postamt/internal/config"
	"postamt/internal/queued"
	"postamt/internal/remote"
	"postamt/internal/resolver"
	"postamt/internal/route"
)

// Local is the transport to the delivery agent.
func Local(c *config.Config) route.Transport {
	if c.LocalTransport.Network == "unix" {
		return route.Transport{Kind: "lmtp", Socket: c.LocalTransport.Address}
	}
	host, port, _ := net.SplitHostPort(c.LocalTransport.Address) // checked when it was read
	return route.Transport{Kind: "lmtp", Host: host, Port: port}
}

// TLS is what is asked for towards other hosts.
func TLS(c *config.Config) remote.TLSMode {
	return map[string]remote.TLSMode{"may": remote.TLSMay, "no": remote.TLSNo, "encrypt": remote.TLSEncrypt}[c.RemoteTLS]
}

// New is the way to other hosts, own being the addresses of this one.
func New(c *config.Config, own []netip.Addr) (*queued.Post, error) {
	servers := make([]string, len(c.DNSServers))
	for i, a := range c.DNSServers {
		servers[i] = a.String()
	}
	r, err := resolver.New(resolver.Options{Servers: servers})
	if err != nil {
		return nil, err
	}
	o := remote.Options{
		Hostname: c.Hostname,
		TLS:      TLS(c),
		Timeouts: remote.Timeouts{
			Connect: c.RemoteTimeoutConnect, Greeting: c.RemoteTimeoutGreet, Command: c.RemoteTimeoutCommand,
			Done: c.RemoteTimeoutData, Total: c.RemoteTimeoutTotal,
		},
		MaxRcpts: c.DestinationRecipients, IdleTimeout: c.ConnectionIdle, MaxMessages: c.ConnectionReuse,
		MaxIdle: c.DeliveryConcurrency,
	}
	for _, a := range c.SourceAddress {
		setSource(&o, a)
	}
	local := remote.Options{
		Hostname: c.Hostname, TLS: remote.TLSNo, Timeouts: o.Timeouts, MaxRcpts: c.RecipientLimit,
		IdleTimeout: time.Minute, MaxMessages: 1 << 30, MaxIdle: c.DeliverConnections,
	}
	// The agent answers when a command has ended, and after a worker had its time.
	local.Timeouts.Done = max(local.Timeouts.Done, c.CommandTimeout+2*c.WorkerWait)
	local.Timeouts.Total = max(local.Timeouts.Total, 2*local.Timeouts.Done)
	return &queued.Post{
		Lookup: r,
		Find: remote.FindOptions{
			Names: append([]string{c.Hostname}, c.LocalDomains.Names...), Addrs: own,
			AllowLoopback: c.RemoteLoopback, Port: uint16(c.RemotePort),
		},
		Pool: remote.NewPool(o), Local: remote.NewPool(local),
	}, nil
}

func setSource(o *remote.Options, a netip.Addr) {
	if a.Is4() {
		o.Source4 = a
	} else {
		o.Source6 = a
	}
}
