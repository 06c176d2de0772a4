package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"coord/bench/machine"
)

// An etcdSubject has one client a member, which all contenders of the member share:
// a client for each of them would cost etcd more.
type etcdSubject struct {
	members []*embed.Etcd
	clients []*clientv3.Client
}

func openEtcd(ctx context.Context, dir string, inside bool) (_ *etcdSubject, err error) {
	s := &etcdSubject{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	configs, err := etcdConfigs(dir)
	if err != nil {
		return nil, err
	}
	for _, cfg := range configs {
		m, err := embed.StartEtcd(cfg)
		if err != nil {
			return nil, err
		}
		s.members = append(s.members, m)
	}
	for i, m := range s.members {
		select {
		case <-m.Server.ReadyNotify():
		case err := <-m.Err():
			return nil, err
		case <-ctx.Done():
			return nil, fmt.Errorf("a member is not ready: %w", context.Cause(ctx))
		}
		if inside {
			s.clients = append(s.clients, v3client.New(m.Server))
			continue
		}
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{configs[i].ListenClientUrls[0].Host}, Logger: zap.NewNop()})
		if err != nil {
			return nil, err
		}
		s.clients = append(s.clients, c)
	}
	return s, nil
}

// etcdConfigs returns the configurations of the members. What is not said is etcd's
// default: it writes its log with fsync, as coord does.
func etcdConfigs(dir string) ([]*embed.Config, error) {
	addrs, err := machine.FreeAddrs(2 * members)
	if err != nil {
		return nil, err
	}
	var configs []*embed.Config
	var initial []string
	for i := range members {
		cfg := embed.NewConfig()
		cfg.Name = "m" + strconv.Itoa(i+1)
		cfg.Dir = filepath.Join(dir, cfg.Name)
		peer, client := url.URL{Scheme: "http", Host: addrs[i]}, url.URL{Scheme: "http", Host: addrs[members+i]}
		cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
		cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
		cfg.TickMs, cfg.ElectionMs = uint(heartbeat/time.Millisecond), uint(electionTimeout/time.Millisecond)
		cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
		configs = append(configs, cfg)
		initial = append(initial, cfg.Name+"="+peer.String())
	}
	for _, cfg := range configs {
		cfg.InitialCluster = strings.Join(initial, ",")
	}
	return configs, nil
}

func (s *etcdSubject) contender(_ context.Context, at int) (contender, error) {
	session, err := concurrency.NewSession(s.clients[at], concurrency.WithTTL(int(sessionTimeout/time.Second)))
	if err != nil {
		return nil, err
	}
	return etcdContender{concurrency.NewMutex(session, lockPath)}, nil
}

func (s *etcdSubject) queued(ctx context.Context) (int, error) {
	resp, err := s.clients[0].Get(ctx, lockPath+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return int(resp.Count), nil
}

func (s *etcdSubject) progress() progress {
	p := progress{leader: -1}
	for i, m := range s.members {
		p.entries, p.writes = max(p.entries, m.Server.AppliedIndex()), max(p.writes, uint64(m.Server.KV().Rev()))
		if m.Server.Leader() == m.Server.MemberID() {
			p.leader = i
		}
	}
	return p
}

func (s *etcdSubject) close() error {
	var errs []error
	for _, c := range s.clients {
		// A client of a member in its own process says that it was closed.
		if err := c.Close(); !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	for _, m := range s.members {
		m.Close()
	}
	return errors.Join(errs...)
}

type etcdContender struct{ mutex *concurrency.Mutex }

func (c etcdContender) lock(ctx context.Context) error    { return c.mutex.Lock(ctx) }
func (c etcdContender) release(ctx context.Context) error { return c.mutex.Unlock(ctx) }
