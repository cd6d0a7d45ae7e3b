package imapd

import "postamt/internal/imap"

func (a *authorization) cmdCapability(_ imap.Command, d *imap.Decoder) *imap.Status {
	return a.capability(d, a.capabilities())
}

func (a *authorization) cmdID(_ imap.Command, d *imap.Decoder) *imap.Status { return a.ident(d) }

func (a *authorization) cmdNoop(_ imap.Command, d *imap.Decoder) *imap.Status {
	if err := d.End(); err != nil {
		return a.wire(err)
	}
	return imap.OK("", "NOOP completed")
}

func (a *authorization) cmdLogout(_ imap.Command, d *imap.Decoder) *imap.Status { return a.logout(d) }
