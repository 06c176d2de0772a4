package zoocfg

import (
	"errors"
	"math"
	"slices"
	"strings"
	"time"
)

// Why keys mean nothing here.
const (
	ofJava      = "is of ZooKeeper's Java process"
	ofElection  = "is of ZooKeeper's elections: raft has its own, timed by tickTime"
	ofSync      = "is of how ZooKeeper's followers are brought up to date: raft has its own way"
	ofLog       = "is of ZooKeeper's log files: coord has its own, which it cuts by itself"
	ofThreads   = "is of ZooKeeper's threads and queues: goroutines need no such setting"
	ofAdmin     = "is of ZooKeeper's HTTP server, which coord serve does not have"
	ofMetrics   = "is of ZooKeeper's metrics"
	ofWatches   = "is of how ZooKeeper keeps watches: coord has one way"
	ofCaches    = "is of ZooKeeper's caches of replies: coord answers from memory"
	ofThrottle  = "is of ZooKeeper's throttling of requests and connections, which is off by default: limits of coord are maxClientCnxns, maxCnxns and globalOutstandingLimit"
	ofKerberos  = "is of Kerberos, which coord does not do"
	ofAddresses = "is of servers with several addresses, which are refused by name"
	ofClients   = "is a setting of clients"
)

// rules has every key but those of families.
var rules = withPassed(map[string]rule{
	// Time and places.
	"tickTime":                milliseconds(1, func(c *Config) *time.Duration { return &c.TickTime }),
	"initLimit":               number(1, math.MaxInt32, func(c *Config) *int { return &c.InitLimit }),
	"syncLimit":               number(1, math.MaxInt32, func(c *Config) *int { return &c.SyncLimit }),
	"minSessionTimeout":       number(-1, math.MaxInt32, func(c *Config) *int { return &c.minMS }),
	"maxSessionTimeout":       number(-1, math.MaxInt32, func(c *Config) *int { return &c.maxMS }),
	"dataDir":                 text(func(c *Config) *string { return &c.DataDir }),
	"dataLogDir":              text(func(c *Config) *string { return &c.DataLogDir }),
	"datadir.autocreate":      flag(func(c *Config) *bool { return &c.AutoCreate }),
	"clientPort":              number(0, 65535, func(c *Config) *int { return &c.port }),
	"clientPortAddress":       address(func(c *Config) *string { return &c.clientIP }),
	"secureClientPort":        number(0, 65535, func(c *Config) *int { return &c.secure }),
	"secureClientPortAddress": address(func(c *Config) *string { return &c.secureIP }),

	// Limits.
	"maxClientCnxns":             number(0, math.MaxInt32, func(c *Config) *int { return &c.MaxClientCnxns }),
	"maxCnxns":                   number(0, math.MaxInt32, func(c *Config) *int { return &c.MaxCnxns }),
	"globalOutstandingLimit":     number(1, math.MaxInt32, func(c *Config) *int { return &c.OutstandingLimit }),
	"jute.maxbuffer":             javaInteger(1, 32<<20, func(c *Config) *int { return &c.MaxBuffer }),
	"4lw.commands.whitelist":     words(func(c *Config) *[]string { return &c.Whitelist }),
	"enforceQuota":               flag(func(c *Config) *bool { return &c.EnforceQuota }),
	"snapCount":                  number(2, math.MaxInt32, func(c *Config) *int { return &c.SnapCount }),
	"clientTcpKeepAlive":         {passed: "TCP always looks whether clients that are silent are there"},
	"nio.sessionlessCnxnTimeout": milliseconds(1, func(c *Config) *time.Duration { return &c.HandshakeTimeout }),

	// Znodes and sessions.
	"extendedTypesEnabled":                   flag(func(c *Config) *bool { return &c.ExtendedTypes }),
	"readonlymode.enabled":                   flag(func(c *Config) *bool { return &c.ReadOnlyMode }),
	"localSessionsEnabled":                   flag(func(c *Config) *bool { return &c.LocalSessions }),
	"localSessionsUpgradingEnabled":          flag(func(c *Config) *bool { return &c.LocalSessionUpgrades }),
	"znode.container.checkIntervalMs":        milliseconds(1, func(c *Config) *time.Duration { return &c.ContainerInterval }),
	"znode.container.maxNeverUsedIntervalMs": milliseconds(0, func(c *Config) *time.Duration { return &c.ContainerNeverUsed }),
	"znode.container.maxPerMinute":           {passed: "is a limit of ZooKeeper's leader: coord deletes in batches"},

	// Who may do what.
	"DigestAuthenticationProvider.superDigest": secret(text(func(c *Config) *string { return &c.SuperDigest })),
	"X509AuthenticationProvider.superUser":     text(func(c *Config) *string { return &c.X509SuperUser }),
	"ensembleAuthName":                         words(func(c *Config) *[]string { return &c.EnsembleNames }),
	"DigestAuthenticationProvider.enabled":     {refused: "the scheme digest is always there", harmless: []string{"true"}},
	"DigestAuthenticationProvider.digestAlg":   {refused: "digests are by SHA1, as ZooKeeper's are by default", harmless: []string{"SHA1", "SHA-1"}},
	"skipACL":                                  {refused: "ACLs are always checked", harmless: []string{"no", "false"}},
	"enforce.auth.enabled":                     {refused: "sessions without a credential cannot be refused yet", harmless: []string{"false"}},
	"enforce.auth.schemes":                     {passed: "counts with enforce.auth.enabled, which is refused"},
	"sessionRequireClientSASLAuth":             {refused: "there is no SASL", harmless: []string{"false"}},
	"allowSaslFailedClients":                   {passed: "there is no SASL that could fail"},
	"superUser":                                {refused: "there is no SASL; use X509AuthenticationProvider.superUser or DigestAuthenticationProvider.superDigest"},
	"SASLAuthenticationProvider.superPassword": secret(rule{refused: "there is no SASL"}),
	"letAnySaslUserDoX":                        {refused: "there is no SASL"},
	"enableEagerACLCheck":                      {passed: "only saves ZooKeeper a round: here as well, ACLs are checked by the state they stand in"},
	"audit.enable":                             {passed: "coord always writes an audit log, into its log"},
	"audit.impl.class":                         {passed: ofJava},
	"authProvider.x509":                        {passed: "the scheme x509 is always there for clients with a certificate"},

	// Members.
	"standaloneEnabled":    flag(func(c *Config) *bool { return &c.Standalone }),
	"reconfigEnabled":      flag(func(c *Config) *bool { return &c.Reconfig }),
	"dynamicConfigFile":    text(func(c *Config) *string { return &c.DynamicFile }),
	"quorumListenOnAllIPs": flag(func(c *Config) *bool { return &c.ListenOnAll }),
	"peerType":             {use: usePeerType},
	"electionAlg":          {refused: "ZooKeeper has only 3 left, and here elections are raft's", harmless: []string{"3"}},
	"leaderServes":         {refused: "every member serves clients", harmless: []string{"yes", "true"}},
	"observerMasterPort":   {refused: "observers learn from any member of the raft group, at their peer ports", harmless: []string{"0", "-1"}},
	"oraclePath":           {refused: "an oracle that decides for half of the servers can lose what was acknowledged"},
	"multiAddress.enabled": {refused: "members find each other by one address each", harmless: []string{"false"}},
	"syncEnabled":          {refused: "every member keeps its log on disk", harmless: []string{"true"}},

	// TLS.
	"client.portUnification":   flag(func(c *Config) *bool { return &c.PortUnification }),
	"sslQuorum":                flag(func(c *Config) *bool { return &c.SSLQuorum }),
	"portUnification":          {refused: "members talk in plaintext or by TLS, never both: restart them together", harmless: []string{"false"}},
	"sslQuorumReloadCertFiles": {passed: "certificates are always read again when their files change"},
	"client.certReload":        {passed: "certificates are always read again when their files change"},
	"ssl.authProvider":         {refused: "certificates prove the scheme x509", harmless: []string{"x509"}},
	"ssl.sslProvider":          {passed: ofJava},
	"ssl.quorum.sslProvider":   {passed: ofJava},
	"fips-mode":                {passed: ofJava + "; Go's is switched on by GODEBUG=fips140=on"},
	"serverCnxnFactory":        {passed: ofJava},

	// What is always on.
	"forceSync":               {refused: "what is acknowledged is on the disks of a quorum, always", harmless: []string{"yes", "true"}},
	"closeSessionTxn.enabled": {passed: "a closed session takes its znodes with it in one write, always"},
	"digest.enabled":          {passed: "members always compare their states"},
	"db.autocreate":           {passed: "a member that lost its directory is always refused by the others"},
	"snapshot.trust.empty":    {passed: ofLog},
})

// passedKeys are further keys that mean nothing here, by the reason.
var passedKeys = map[string]string{
	ofElection: "cnxTimeout quorumCnxnTimeoutMs electionPortBindRetry fastleader.minNotificationInterval fastleader.maxNotificationInterval tcpKeepAlive " +
		"observer.election.DelayMs observer.reconnectDelayMs leader.maxTimeToWaitForEpoch quorum.cnxn.threads.size",
	ofSync: "connectToLearnerMasterLimit leader.maxConcurrentSnapSyncs leader.maxConcurrentDiffSyncs maxConcurrentSnapSyncs maxConcurrentDiffSyncs " +
		"maxTimeToWaitForEpoch snapshotSizeFactor forceSnapshotSync commitLogCount learner.asyncSending learner.closeSocketAsync leader.closeSocketAsync leaderConnectDelayDuringRetryMs " +
		"leader.ackLoggingFrequency observerMaster.sizeLimit observer.syncEnabled follower.skipLearnerRequestToNextProcessor forward_learner_requests_to_commit_processor_disabled serializeLastProcessedZxid.enabled testingonly.initialZxid",
	ofLog: "autopurge.snapRetainCount autopurge.purgeInterval preAllocSize snapSizeLimitInKb txnLogSizeLimitInKb fsync.warningthresholdms " +
		"flushDelay maxBatchSize maxWriteQueuePollTime snapshot.compression.method jute.maxbuffer.extrasize intBufferStartingSizeBytes emulate353TTLNodes",
	ofThreads: "nio.numSelectorThreads nio.numWorkerThreads nio.directBufferBytes nio.shutdownTimeout " +
		"commitProcessor.numWorkerThreads commitProcessor.maxReadBatchSize commitProcessor.maxCommitBatchSize commitProcessor.shutdownTimeout " +
		"netty.advancedFlowControl.enabled advancedFlowControlEnabled netty.server.earlyDropSecureConnectionHandshakes netty.server.outstandingHandshake.limit outstandingHandshake.limit " +
		"messageTracker.BufferSize messageTracker.Enabled clientPortListenBacklog",
	ofCaches:  "maxResponseCacheSize maxGetChildrenResponseCacheSize bitHashCacheSize",
	ofWatches: "watchManagerName watchManaggerName watcherCleanThreadsNum watcherCleanThreshold watcherCleanIntervalInSeconds maxInProcessingDeadWatchers",
	ofThrottle: "largeRequestMaxBytes largeRequestThreshold throttled_op_wait_time throttledOpWaitTime requestThrottleLimit requestThrottleStallTime requestThrottleDropStale requestStaleLatencyCheck requestStaleConnectionCheck " +
		"connectionMaxTokens connectionTokenFillTime connectionTokenFillCount connectionFreezeTime connectionDropIncrease connectionDropDecrease connectionDecreaseRatio",
	ofMetrics:   "pathStats.enabled pathStats.delay pathStats.initialDelay pathStats.maxDepth pathStats.sampleRate pathStats.slotCapacity pathStats.slotDuration pathStats.topPathMax",
	ofJava:      "jmx.log4j.disable jmx.log4j.mbean configuration kinit",
	ofAddresses: "multiAddress.reachabilityCheckTimeoutMs multiAddress.reachabilityCheckEnabled",
	ofClients:   "client.secure clientCnxnSocket disableAutoWatchReset request.timeout server.principal server.realm",
	ofKerberos:  "requireKerberosConfig security.auth_to_local",
}

// withPassed adds the keys of passedKeys.
func withPassed(rules map[string]rule) map[string]rule {
	for reason, keys := range passedKeys {
		for key := range strings.FieldsSeq(keys) {
			rules[key] = rule{passed: reason}
		}
	}
	return rules
}

// families are keys that begin alike. The first that fits counts.
var families = []struct {
	prefix string
	rule   func(rest string) rule
}{
	{"server.", serverRule},
	{"group", func(string) rule { return rule{refused: "quorums are majorities: groups and weights are not there"} }},
	{"weight", func(string) rule { return rule{refused: "quorums are majorities: groups and weights are not there"} }},
	{"authProvider.", func(string) rule {
		return rule{
			refused: "coord has the schemes world, auth, digest, ip, x509, super and user, and none of other classes",
			harmless: []string{
				"org.apache.zookeeper.server.auth.DigestAuthenticationProvider", "org.apache.zookeeper.server.auth.IPAuthenticationProvider",
				"org.apache.zookeeper.server.auth.X509AuthenticationProvider",
			},
		}
	}},
	{"quorum.auth.", quorumAuthRule},
	{"ssl.quorum.", quorumTLSRule},
	{"ssl.", clientTLSRule},
	{"metricsProvider.", passedRule(ofMetrics)},
	{"admin.", passedRule(ofAdmin)},
	{"jvm.pause.", passedRule(ofJava)},
	{"kerberos.", passedRule(ofKerberos)},
	{"sasl.", passedRule("there is no SASL")},
	{"connection_throttle_", passedRule(ofThrottle)},
	{"request_throttle", passedRule(ofThrottle)},
	{"request_stale_", passedRule(ofThrottle)},
}

func passedRule(reason string) func(string) rule {
	return func(string) rule { return rule{passed: reason} }
}

func secret(r rule) rule {
	r.secret = true
	return r
}

func serverRule(id string) rule {
	return rule{use: func(c *Config, v string) error {
		s, err := ParseServer(id, v)
		if err != nil {
			return err
		}
		c.Servers = append(c.Servers, s)
		return nil
	}}
}

// usePeerType checks peerType. The server lines decide, as in ZooKeeper.
func usePeerType(c *Config, v string) error {
	if !slices.Contains([]string{"observer", "participant"}, strings.ToLower(v)) {
		return errors.New("want participant or observer")
	}
	c.note(c.File, c.given["peerType"], "the server.N lines say who votes")
	return nil
}

func quorumAuthRule(rest string) rule {
	switch rest {
	case "enableSasl", "serverRequireSasl", "learnerRequireSasl":
		return rule{refused: "members prove who they are by TLS: see sslQuorum", harmless: []string{"false"}}
	}
	return rule{passed: "counts with quorum.auth.enableSasl, which is refused"}
}

func clientTLSRule(rest string) rule {
	side := func(c *Config) *TLS { return &c.ClientTLS }
	switch rest {
	case "protocol", "enabledProtocols":
		return words(func(c *Config) *[]string { return &side(c).Protocols })
	case "clientAuth":
		return rule{use: func(c *Config, v string) error {
			if v = strings.ToLower(v); !slices.Contains([]string{"need", "want", "none"}, v) {
				return errors.New("want need, want or none")
			}
			side(c).ClientAuth = v
			return nil
		}}
	case "hostnameVerification":
		return rule{passed: "is of who dials, and a server does not dial clients"}
	case "clientHostnameVerification":
		return rule{refused: "certificates of clients are not compared with the names of their machines", harmless: []string{"false"}}
	}
	return tlsRule(rest, side)
}

func quorumTLSRule(rest string) rule {
	switch rest {
	case "protocol", "enabledProtocols":
		return rule{passed: "members talk TLS 1.3"}
	case "clientAuth":
		return rule{refused: "both sides of every connection of members show a certificate", harmless: []string{"need"}}
	case "hostnameVerification":
		return rule{refused: "a member's certificate must be valid for its host, or any member could be any other", harmless: []string{"true"}}
	case "clientHostnameVerification":
		return rule{passed: "the certificate of a member that dials is compared with the host in its server.N line"}
	}
	return tlsRule(rest, func(c *Config) *TLS { return &c.QuorumTLS })
}

// notPEM says what to do about key stores of Java.
const notPEM = "only PEM files are read: openssl pkcs12 -in STORE.p12 -nodes -out STORE.pem makes one, after keytool -importkeystore for a JKS"

// tlsRule has what is the same for clients and members.
func tlsRule(rest string, side func(*Config) *TLS) rule {
	switch rest {
	case "keyStore.location":
		return text(func(c *Config) *string { return &side(c).KeyStore })
	case "trustStore.location":
		return text(func(c *Config) *string { return &side(c).TrustStore })
	case "keyStore.type":
		return rule{refused: notPEM, harmless: []string{"PEM"}, also: func(c *Config) { side(c).keyIsPEM = true }}
	case "trustStore.type":
		return rule{refused: notPEM, harmless: []string{"PEM"}, also: func(c *Config) { side(c).trustIsPEM = true }}
	case "keyStore.password", "keyStore.passwordPath":
		return secret(rule{refused: "keys with a password are not read: openssl pkey takes it off; guard the file by its permissions", harmless: []string{""}})
	case "trustStore.password", "trustStore.passwordPath":
		return secret(rule{passed: "certificates in PEM have no password"})
	case "ciphersuites":
		return rule{passed: "Go chooses, and has none that are weak"}
	case "context.supplier.class":
		return rule{refused: "is a Java class"}
	case "crl", "ocsp":
		return rule{refused: "revocation is not checked: give certificates short lives", harmless: []string{"false"}}
	case "handshakeDetectionTimeoutMillis", "allowReverseDnsLookup", "tcnative.ocsp.enabled":
		return rule{passed: ofJava}
	}
	return rule{}
}
