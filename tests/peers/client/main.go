// Go's clientv3 as one of the clients that tests/clients runs: it says its lines of the conversation.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const leaseTTLSeconds = 3

func main() {
	log.SetFlags(0)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Args[1]}, DialTimeout: 5 * time.Second})
	check(err)
	defer client.Close()
	ctx := context.Background()

	_, err = client.Put(ctx, "c/key", "one")
	check(err)
	fmt.Println("put")
	got, err := client.Get(ctx, "c/key")
	check(err)
	fmt.Printf("get %s\n", got.Kvs[0].Value)

	for range 2 {
		answer, err := client.Txn(ctx).
			If(clientv3.Compare(clientv3.Value("c/key"), "=", "one")).
			Then(clientv3.OpPut("c/key", "two")).
			Else(clientv3.OpGet("c/key")).
			Commit()
		check(err)
		if answer.Succeeded {
			fmt.Println("txn then")
		} else {
			fmt.Printf("txn else %s\n", answer.Responses[0].GetResponseRange().Kvs[0].Value)
		}
	}

	lease, err := client.Grant(ctx, leaseTTLSeconds)
	check(err)
	_, err = client.Put(ctx, "c/leased", "", clientv3.WithLease(lease.ID))
	check(err)
	renewals, err := client.KeepAlive(ctx, lease.ID)
	check(err)
	go func() {
		for range renewals {
			fmt.Println("renewed")
		}
	}()
	fmt.Println("lease")

	watch(ctx, client)
	_, err = client.Revoke(ctx, lease.ID)
	check(err)
	fmt.Println("done")
}

// watch prints events until the key is deleted; clientv3 itself resumes after an outage.
func watch(ctx context.Context, client *clientv3.Client) {
	for response := range client.Watch(ctx, "c/watched", clientv3.WithCreatedNotify()) {
		check(response.Err())
		if response.Created {
			fmt.Println("watching")
		}
		for _, event := range response.Events {
			if event.Type == clientv3.EventTypeDelete {
				fmt.Println("event delete")
				return
			}
			fmt.Printf("event put %s\n", event.Kv.Value)
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
