package config

// keys is the table: every key in the order of the default file and the page, its default, and its field.
// To add a key: a field, a row here, a line in etc/postamt.conf, a paragraph in man/postamt.conf.5; the test
// says what was forgotten. A key that was ever released keeps its name and meaning.
func (c *Config) keys() []key {
	dir := c.dir
	return []key{
		// Names and domains.
		{"hostname", "", hostname{&c.Hostname}},
		{"origin", "", hostname{&c.Origin}},
		{"local_domains", "", domains{&c.LocalDomains, dir}},
		{"virtual_domains", "", domains{&c.VirtualDomains, dir}},
		{"relay_domains", "", domains{&c.RelayDomains, dir}},
		{"relay_clients", "", prefixes{&c.RelayClients}},
		{"postmaster", "postmaster", word{&c.Postmaster}},

		// Tables.
		{"aliases", "aliases", paths{&c.Aliases, dir}},
		{"virtual_aliases", "", paths{&c.VirtualAliases, dir}},
		{"users", "users", path{&c.Users, dir}},
		{"passwords", "", path{&c.Passwords, dir}},
		{"routes", "", path{&c.Routes, dir}},
		{"recipient_delimiter", "+", delimiter{&c.RecipientDelimiter}},

		// Places.
		{"queue_dir", "/var/spool/postamt", place{&c.QueueDir, dir}},
		{"run_dir", "/run/postamt", place{&c.RunDir, dir}},
		{"state_dir", "/var/lib/postamt", place{&c.StateDir, dir}},
		{"mailbox_dir", "/var/mail", place{&c.MailboxDir, dir}},
		{"maildir", "~/Maildir", pattern{&c.Maildir}},
		{"shared_mailboxes", "", path{&c.SharedMailboxes, dir}},
		{"index", "", path{&c.Index, dir}},

		// Accounts and workers.
		{"login_user", "pa-login", word{&c.LoginUser}},
		{"mailbox_user", "vmail", word{&c.MailboxUser}},
		{"alias_user", "nobody", word{&c.AliasUser}},
		{"queue_user", "pa-queue", word{&c.QueueUser}},
		{"smtpd_user", "pa-smtpd", word{&c.SmtpdUser}},
		{"auth_user", "pa-auth", word{&c.AuthUser}},
		{"keyd_user", "pa-keyd", word{&c.KeydUser}},
		{"min_uid", "100", count{&c.MinUID, 1}},
		{"worker_limit", "500", count{&c.WorkerLimit, 1}},
		{"worker_idle", "1m", duration{&c.WorkerIdle, 0}},
		{"worker_wait", "1m", duration{&c.WorkerWait, 1}},

		// Logging and process.
		{"log", "auto", choice{&c.Log, "auto stderr syslog"}},
		{"drain_timeout", "20s", duration{&c.DrainTimeout, 0}},

		// Listeners and TLS.
		{"smtpd_listen", "0.0.0.0:25=mx [::]:25=mx unix:smtpd.sock=local", listeners{&c.SmtpdListen, "", "mx submission submissions local"}},
		{"deliver_listen", "unix:deliver.sock", listeners{&c.DeliverListen, "lmtp", "lmtp"}},
		{"pop3d_listen", "0.0.0.0:110=pop3 [::]:110=pop3", listeners{&c.Pop3dListen, "pop3", "pop3 pop3s"}},
		{"imapd_listen", "0.0.0.0:143=imap [::]:143=imap", listeners{&c.ImapdListen, "imap", "imap imaps"}},
		{"tls_cert", "", paths{&c.TLSCert, dir}},
		{"tls_key", "", paths{&c.TLSKey, dir}},
		{"tls_client_ca", "", paths{&c.TLSClientCA, dir}},
		{"tls_min_version", "1.2", tlsVersion{&c.TLSMinVersion}},
		{"tls_keys", "auto", choice{&c.TLSKeys, "auto keyd self"}},
		{"keyd_clients", "pa-smtpd pa-login", words{&c.KeydClients}},

		// Who may log in.
		{"auth_listen", "unix:auth=client unix:auth-users=users", listeners{&c.AuthListen, "", "client users"}},
		{"auth_server", "auth", word{&c.AuthServer}},
		{"auth_users", "auth-users", word{&c.AuthUsers}},
		{"auth_sources", "users", sources{&c.AuthSources}},
		{"auth_mechanisms", "PLAIN LOGIN", chosen{&c.AuthMechanisms, "PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-256-PLUS EXTERNAL OAUTHBEARER XOAUTH2 APOP"}},
		{"auth_clear", "127.0.0.0/8 ::1", prefixes{&c.AuthClear}},
		{"auth_hashes", "0", count{&c.AuthHashes, 0}},
		{"auth_memory", "256m", size{&c.AuthMemory}},
		{"auth_timeout", "10s", duration{&c.AuthTimeout, 1}},
		{"oauth_introspection", "", word{&c.OAuthIntrospection}},
		{"oauth_credentials", "", path{&c.OAuthCredentials, dir}},
		{"oauth_jwt_keys", "", path{&c.OAuthJWTKeys, dir}},
		{"oauth_issuer", "", word{&c.OAuthIssuer}},
		{"oauth_audience", "", word{&c.OAuthAudience}},
		{"oauth_claim", "email", word{&c.OAuthClaim}},
		{"sender_check", "yes", choice{&c.SenderCheck, "yes envelope no"}},
		{"senders", "", path{&c.Senders, dir}},
		{"login_messages_hour", "0", count{&c.LoginMessagesHour, 0}},
		{"login_messages_day", "0", count{&c.LoginMessagesDay, 0}},
		{"login_recipients_hour", "0", count{&c.LoginRecipientsHour, 0}},
		{"login_recipients_day", "0", count{&c.LoginRecipientsDay, 0}},

		// What smtpd accepts.
		{"message_size_limit", "50m", size{&c.MessageSizeLimit}},
		{"recipient_limit", "1000", count{&c.RecipientLimit, 100}}, // RFC 5321 section 4.5.3.1.8: at least 100
		{"mail_limit", "1000", count{&c.MailLimit, 0}},
		{"smtpd_hops", "50", count{&c.SmtpdHops, 1}},
		{"smtpd_timeout_command", "5m", duration{&c.SmtpdTimeoutCommand, 1}},
		{"smtpd_timeout_data", "3m", duration{&c.SmtpdTimeoutData, 1}},
		{"smtpd_timeout_session", "2h", duration{&c.SmtpdTimeoutSession, 0}},
		{"smtpd_timeout_commit", "1m", duration{&c.SmtpdTimeoutCommit, 0}},
		{"smtpd_min_rate", "128", size{&c.SmtpdMinRate}},
		{"smtpd_stress_percent", "80", count{&c.SmtpdStressPercent, 1}},
		{"smtpd_stress_timeout", "10s", duration{&c.SmtpdStressTimeout, 1}},
		{"smtpd_session_limit", "1000", count{&c.SmtpdSessionLimit, 1}},
		{"smtpd_client_limit", "50", count{&c.SmtpdClientLimit, 0}},
		{"smtpd_client_rate", "0", count{&c.SmtpdClientRate, 0}},
		{"smtpd_trusted_exempt", "yes", flag{&c.SmtpdTrustedExempt}},
		{"smtpd_error_soft", "10", count{&c.SmtpdErrorSoft, 0}},
		{"smtpd_error_delay", "1s", duration{&c.SmtpdErrorDelay, 0}},
		{"smtpd_error_hard", "20", count{&c.SmtpdErrorHard, 1}},
		{"smtpd_junk_limit", "100", count{&c.SmtpdJunkLimit, 1}},
		{"smtpd_commit_limit", "64", count{&c.SmtpdCommitLimit, 1}},

		// What pop3d serves.
		{"pop3d_timeout_login", "1m", duration{&c.Pop3dTimeoutLogin, 1}},
		{"pop3d_timeout_idle", "10m", duration{&c.Pop3dTimeoutIdle, 1}},
		{"pop3d_error_limit", "20", count{&c.Pop3dErrorLimit, 0}},
		{"pop3d_login_delay", "0", duration{&c.Pop3dLoginDelay, 0}},
		{"pop3d_expire", "0", count{&c.Pop3dExpire, 0}},
		{"pop3d_session_limit", "1000", count{&c.Pop3dSessionLimit, 1}},
		{"pop3d_client_limit", "50", count{&c.Pop3dClientLimit, 0}},

		// What imapd serves.
		{"imapd_timeout_login", "1m", duration{&c.ImapdTimeoutLogin, 1}},
		{"imapd_timeout_idle", "30m", duration{&c.ImapdTimeoutIdle, 1}}, // RFC 9051 section 5.4: at least 30 minutes
		{"imapd_error_limit", "20", count{&c.ImapdErrorLimit, 0}},
		{"imapd_message_limit", "0", size{&c.ImapdMessageLimit}},
		{"imapd_command_limit", "0", count{&c.ImapdCommandLimit, 0}},
		{"imapd_session_limit", "10000", count{&c.ImapdSessionLimit, 1}},
		{"imapd_client_limit", "100", count{&c.ImapdClientLimit, 0}},
		{"imapd_user_limit", "50", count{&c.ImapdUserLimit, 0}},

		// The queue.
		{"queue_active_limit", "5000", count{&c.QueueActiveLimit, 1}},
		{"queue_scan_interval", "5m", duration{&c.QueueScanInterval, 1}},
		{"retry_min", "5m", duration{&c.RetryMin, 1}},
		{"retry_max", "4h", duration{&c.RetryMax, 1}},
		{"warn_after", "4h", duration{&c.WarnAfter, 0}},
		{"expire_after", "5d", duration{&c.ExpireAfter, 1}},
		{"bounce_expire_after", "5d", duration{&c.BounceExpireAfter, 1}},
		{"alias_depth", "20", count{&c.AliasDepth, 1}},
		{"alias_expansion", "100000", count{&c.AliasExpansion, 1}},

		// Delivery.
		{"local_transport", "lmtp:unix:deliver.sock", lmtp{&c.LocalTransport}},
		{"deliver_connections", "32", count{&c.DeliverConnections, 1}},
		{"forward_files", ".forward .qmail", forwardFiles{&c.ForwardFiles}},
		{"command_timeout", "5m", duration{&c.CommandTimeout, 1}},
		{"srs_keys", "", path{&c.SRSKeys, dir}},
		{"srs_domain", "", hostname{&c.SRSDomain}},
		{"delivery_concurrency", "500", count{&c.DeliveryConcurrency, 1}},
		{"destination_concurrency", "20", count{&c.DestinationConcurrency, 1}},
		{"destination_concurrency_start", "5", count{&c.DestinationConcurrencyStart, 1}},
		{"destination_recipients", "100", count{&c.DestinationRecipients, 1}},
		{"connection_reuse", "100", count{&c.ConnectionReuse, 1}},
		{"connection_idle", "5s", duration{&c.ConnectionIdle, 0}},
		{"quota_default", "0", size{&c.QuotaDefault}},

		// Other servers.
		{"smarthost", "", nexthop{&c.Smarthost}},
		{"source_address", "", addrs{&c.SourceAddress}},
		{"dns_servers", "", addrPorts{&c.DNSServers, 53}},
		{"remote_port", "25", port{&c.RemotePort}},
		{"remote_tls", "may", choice{&c.RemoteTLS, "may no encrypt"}},
		{"remote_loopback", "no", flag{&c.RemoteLoopback}},
		{"remote_timeout_connect", "30s", duration{&c.RemoteTimeoutConnect, 1}},
		{"remote_timeout_greeting", "5m", duration{&c.RemoteTimeoutGreet, 1}},
		{"remote_timeout_command", "5m", duration{&c.RemoteTimeoutCommand, 1}},
		{"remote_timeout_data", "10m", duration{&c.RemoteTimeoutData, 1}},
		{"remote_timeout_total", "1h", duration{&c.RemoteTimeoutTotal, 1}},
	}
}
