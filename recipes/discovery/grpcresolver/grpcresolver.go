// Package grpcresolver lets gRPC clients find the instances of a service that package
// discovery knows. It is a module of its own, so that nobody else links gRPC.
//
//	conn, err := grpc.NewClient("coord:///billing",
//		grpc.WithResolvers(grpcresolver.New(c, "/services")),
//		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin":{}}]}`), …)
//
// The addresses of a connection are those of the healthy instances, and follow them. As
// long as a service has none, calls fail with the code Unavailable, unless they wait
// for it to be ready; before it was loaded, they wait.
package grpcresolver

import (
	"context"
	"reflect"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"

	"coord"
	"coord/recipes/discovery"
)

// Scheme is the scheme of the targets: coord:///service.
const Scheme = "coord"

// New returns a Builder of resolvers for the services at root, by a client that outlives
// the connections: a [coord.Coordinator], rather than a session.
func New(c coord.Client, root string) resolver.Builder { return &builder{c, root} }

type builder struct {
	c    coord.Client
	root string
}

// Scheme implements [resolver.Builder].
func (*builder) Scheme() string { return Scheme }

// Build implements [resolver.Builder]. It fails with [coord.ErrBadArguments] for a
// target that is no name of a service.
func (b *builder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	service, err := discovery.Open(b.c, b.root, target.Endpoint())
	if err != nil {
		return nil, err
	}
	r := &serviceResolver{service: service, cc: cc, done: make(chan struct{})}
	go r.run()
	return r, nil
}

// A serviceResolver has a connection follow a service.
type serviceResolver struct {
	service *discovery.Service
	cc      resolver.ClientConn
	done    chan struct{} // closed when run has returned
}

// run ends with the service.
func (r *serviceResolver) run() {
	defer close(r.done)
	for u, err := range r.service.Watch(context.Background()) {
		if err != nil {
			r.cc.ReportError(err) // to a connection that is closed, this does nothing
			return
		}
		var state resolver.State
		for _, in := range u.Healthy() {
			at := []resolver.Address{{Addr: in.HostPort()}}
			state.Addresses = append(state.Addresses, at...) // for balancers that do not know endpoints
			state.Endpoints = append(state.Endpoints, resolver.Endpoint{
				Addresses:  at,
				Attributes: attributes.New(instanceKey{}, instance{in}),
			})
		}
		_ = r.cc.UpdateState(state) // what it does not take, it says to its callers
	}
}

// ResolveNow implements [resolver.Resolver]. What there is has been told already.
func (*serviceResolver) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements [resolver.Resolver].
func (r *serviceResolver) Close() {
	r.service.Close()
	<-r.done
}

// InstanceOf returns the instance that an endpoint stands for, with its weight and
// metadata: for balancers, which find it in the Attributes of a [resolver.Endpoint].
func InstanceOf(a *attributes.Attributes) (discovery.Instance, bool) {
	in, ok := a.Value(instanceKey{}).(instance)
	return in.Instance, ok
}

type instanceKey struct{}

// An instance is an Instance that attributes can compare.
type instance struct{ discovery.Instance }

// Equal reports whether o is the same.
func (in instance) Equal(o any) bool { return reflect.DeepEqual(in, o) }
