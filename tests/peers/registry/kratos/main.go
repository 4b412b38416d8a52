// kratos: its registry.ServiceInstance, kept as contrib/registry/etcd keeps it. That package itself is in no module proxy, so the key,
// the lease and the reading of the whole prefix are repeated here; what is read and written is kratos' own type.
package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"catena/tests/peers/registry/peer"

	"github.com/go-kratos/kratos/v2/registry"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	namespace = "/microservices"
	id        = "Host-7"
)

type kratos struct {
	client *clientv3.Client
	lease  clientv3.LeaseID
}

func main() {
	peer.Main(func(client *clientv3.Client) peer.Library { return &kratos{client: client} })
}

func (k *kratos) Offer(ctx context.Context, service, address string) error {
	if k.lease == clientv3.NoLease {
		lease, err := peer.Lease(ctx, k.client)
		if err != nil {
			return err
		}
		k.lease = lease
	}
	value, err := json.Marshal(&registry.ServiceInstance{
		ID: id, Name: service, Version: "v2",
		Metadata:  map[string]string{"weight": "30", "k": "<v>"},
		Endpoints: []string{"grpc://" + address},
	})
	if err != nil {
		return err
	}
	_, err = k.client.Put(ctx, key(service), string(value), clientv3.WithLease(k.lease))
	return err
}

func (k *kratos) Leave(ctx context.Context, service string) error {
	_, err := k.client.Delete(ctx, key(service))
	return err
}

// Discover reads the whole prefix after each event, as kratos' watcher does, and fails if one value is none of kratos'.
func (k *kratos) Discover(ctx context.Context, service string, show func(any)) error {
	prefix := namespace + "/" + service
	watch := k.client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(0), clientv3.WithCreatedNotify())
	for response := range watch {
		if err := response.Err(); err != nil {
			return err
		}
		answer, err := k.client.Get(ctx, prefix, clientv3.WithPrefix())
		if err != nil {
			return err
		}
		list := []*registry.ServiceInstance{}
		for _, kv := range answer.Kvs {
			instance := new(registry.ServiceInstance)
			if err := json.Unmarshal(kv.Value, instance); err != nil {
				return err
			}
			if instance.Name == service {
				list = append(list, instance)
			}
		}
		slices.SortFunc(list, func(a, b *registry.ServiceInstance) int { return strings.Compare(a.ID, b.ID) })
		show(list)
	}
	return ctx.Err()
}

func key(service string) string { return namespace + "/" + service + "/" + id }
