// grpc naming: etcd's own endpoint manager registers, and its resolver for grpc discovers.
package main

import (
	"context"
	"net/url"
	"slices"

	"catena/tests/peers/registry/peer"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	etcdresolver "go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc/resolver"
)

type naming struct {
	client *clientv3.Client
	lease  clientv3.LeaseID
	key    string
}

func main() {
	peer.Main(func(client *clientv3.Client) peer.Library { return &naming{client: client} })
}

func (n *naming) Offer(ctx context.Context, service, address string) error {
	manager, err := endpoints.NewManager(n.client, service)
	if err != nil {
		return err
	}
	if n.lease == clientv3.NoLease {
		lease, err := peer.Lease(ctx, n.client)
		if err != nil {
			return err
		}
		n.lease = lease
	}
	endpoint := endpoints.Endpoint{Addr: address, Metadata: map[string]string{"zone": "a"}}
	key := service + "/" + address
	updates := []*endpoints.UpdateWithOpts{endpoints.NewAddUpdateOpts(key, endpoint, clientv3.WithLease(n.lease))}
	if n.key != "" {
		updates = append(updates, endpoints.NewDeleteUpdateOpts(n.key))
	}
	n.key = key
	return manager.Update(ctx, updates)
}

func (n *naming) Leave(ctx context.Context, service string) error {
	manager, err := endpoints.NewManager(n.client, service)
	if err != nil {
		return err
	}
	return manager.DeleteEndpoint(ctx, n.key)
}

func (n *naming) Discover(ctx context.Context, service string, show func(any)) error {
	builder, err := etcdresolver.NewBuilder(n.client)
	if err != nil {
		return err
	}
	target := resolver.Target{URL: url.URL{Scheme: builder.Scheme(), Path: "/" + service}}
	if _, err := builder.Build(target, &channel{show: show}, resolver.BuildOptions{}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// channel is the side of a grpc channel that a resolver sees.
type channel struct {
	resolver.ClientConn
	show func(any)
}

func (c *channel) UpdateState(state resolver.State) error {
	addresses := []string{}
	for _, endpoint := range state.Endpoints {
		for _, address := range endpoint.Addresses {
			addresses = append(addresses, address.Addr)
		}
	}
	for _, address := range state.Addresses {
		addresses = append(addresses, address.Addr)
	}
	slices.Sort(addresses)
	c.show(slices.Compact(addresses))
	return nil
}

func (c *channel) ReportError(err error) { c.show(map[string]string{"error": err.Error()}) }
