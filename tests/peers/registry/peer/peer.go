// Package peer is what the programs have in common: their command line and the lines that they print.
//
//	PROGRAM ENDPOINT discover SERVICE
//	PROGRAM ENDPOINT register SERVICE ADDRESS
//
// discover prints one line of JSON for each list that the library hands out. register prints a line when the instance stands, offers
// another address for each line that it reads, again with a line when that stands, and leaves in order when its input ends.
package peer

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Library is one way to keep instances in etcd.
type Library interface {
	// Discover hands out every list of the service's instances, the first one at once.
	Discover(ctx context.Context, service string, show func(list any)) error
	// Offer registers the address, or replaces the one that was offered before.
	Offer(ctx context.Context, service, address string) error
	// Leave takes back what was offered.
	Leave(ctx context.Context, service string) error
}

// Main runs a program on its arguments.
func Main(library func(*clientv3.Client) Library) {
	log.SetFlags(0)
	if len(os.Args) < 4 {
		log.Fatal("usage: ENDPOINT discover SERVICE | ENDPOINT register SERVICE ADDRESS")
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Args[1]}, DialTimeout: 5 * time.Second})
	check(err)
	defer client.Close()
	ctx := context.Background()
	lib, service := library(client), os.Args[3]
	if os.Args[2] == "discover" {
		check(lib.Discover(ctx, service, show))
		return
	}
	check(lib.Offer(ctx, service, os.Args[4]))
	show(os.Args[4])
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		check(lib.Offer(ctx, service, lines.Text()))
		show(lines.Text())
	}
	check(lib.Leave(ctx, service))
}

// leaseTTLSeconds is short: what a killed program leaves behind is gone soon.
const leaseTTLSeconds = 3

// Lease grants a lease and keeps it alive as long as the program runs.
func Lease(ctx context.Context, client *clientv3.Client) (clientv3.LeaseID, error) {
	granted, err := client.Grant(ctx, leaseTTLSeconds)
	if err != nil {
		return clientv3.NoLease, err
	}
	renewals, err := client.KeepAlive(ctx, granted.ID)
	if err != nil {
		return clientv3.NoLease, err
	}
	go func() {
		for range renewals {
		}
	}()
	return granted.ID, nil
}

// show prints a value as one line.
func show(value any) {
	line, err := json.Marshal(value)
	check(err)
	fmt.Println(string(line))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
