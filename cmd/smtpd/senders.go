package main

import (
	"errors"
	"path/filepath"
	"time"

	"postamt/internal/addr"
	"postamt/internal/config"
	"postamt/internal/maillog"
	"postamt/internal/policy"
	"postamt/internal/route"
	"postamt/internal/smtp"
	"postamt/internal/smtpd"
	"postamt/internal/tables"
	"postamt/internal/textfile"
	"postamt/internal/usage"
)

// senders judges the addresses of users of ours by the tables and the senders file of now.
type senders struct {
	set    *tables.Set
	limits route.Limits
	rules  *textfile.File[policy.Rules] // nil: no file
	header bool                         // From too
}

func newSenders(c *config.Config, set *tables.Set, log *maillog.Logger) (smtpd.Senders, error) {
	if c.SenderCheck == "no" {
		return nil, nil
	}
	s := &senders{set: set, limits: route.Limits{Depth: c.AliasDepth, Count: c.AliasExpansion}, header: c.SenderCheck == "yes"}
	if c.Senders != "" {
		s.rules = &textfile.File[policy.Rules]{Path: c.Senders, Max: policy.MaxRules, Parse: policy.ParseRules,
			Report: func(err error) { log.Problem("", "senders", err) }}
		if _, err := s.rules.Get(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Envelope is smtpd.Senders'.
func (s *senders) Envelope(login string, from addr.Mailbox) error {
	p := policy.Senders{Tables: s.set.Current(), Limits: s.limits}
	if s.rules != nil {
		var err error
		if p.Rules, err = s.rules.Get(); err != nil {
			return err
		}
	}
	if r := p.May(login, from); r != nil {
		return r
	}
	return nil
}

// Header is smtpd.Senders'. The reply is that to the end of the message.
func (s *senders) Header(login string, from []string) error {
	if !s.header {
		return nil
	}
	for _, f := range from {
		m, err := addr.Parse(f, true)
		if err != nil {
			return smtp.NewReply(550, "5.7.1", "From has an address that cannot be read")
		}
		if err := s.Envelope(login, m); err != nil {
			var r *smtp.Reply
			if errors.As(err, &r) && r.Permanent() {
				return smtp.NewReply(550, "5.7.1", "From: "+r.Lines[0])
			}
			return err
		}
	}
	return nil
}

// meter counts what logins send.
type meter struct {
	store  *usage.Store
	limits usage.Limits
}

func newMeter(c *config.Config, log *maillog.Logger) (smtpd.Usage, error) {
	l := usage.Limits{MessagesHour: c.LoginMessagesHour, MessagesDay: c.LoginMessagesDay,
		RecipientsHour: c.LoginRecipientsHour, RecipientsDay: c.LoginRecipientsDay}
	if !l.Any() {
		return nil, nil
	}
	s, err := usage.Open(filepath.Join(c.StateDir, "usage"))
	if err != nil {
		return nil, err
	}
	go func() {
		if err := s.Forget(time.Now()); err != nil {
			log.Problem("", "usage", err)
		}
	}()
	return &meter{s, l}, nil
}

// Count is smtpd.Usage's.
func (m *meter) Count(login string, rcpts int, now time.Time) (string, error) {
	return m.store.Count(login, rcpts, now, m.limits)
}
