// go-zero's core/discov: its publisher registers, and its subscriber discovers.
//
//	PROGRAM ENDPOINT discover SERVICE
//	PROGRAM ENDPOINT register SERVICE ADDRESS
//
// discover prints one line of JSON for each list that the subscriber hands out. register prints a line when the publisher runs, lets
// another one publish another address for each line that it reads, and leaves in order when its input ends.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"slices"

	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
)

func main() {
	log.SetFlags(0)
	logx.Disable()
	if len(os.Args) < 4 {
		log.Fatal("usage: ENDPOINT discover SERVICE | ENDPOINT register SERVICE ADDRESS")
	}
	endpoints, service := []string{os.Args[1]}, os.Args[3]
	if os.Args[2] == "discover" {
		discover(endpoints, service)
		return
	}
	publisher := publish(endpoints, service, os.Args[4])
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		publisher.Stop()
		publisher = publish(endpoints, service, lines.Text())
	}
	publisher.Stop()
}

func publish(endpoints []string, service, address string) *discov.Publisher {
	publisher := discov.NewPublisher(endpoints, service, address)
	check(publisher.KeepAlive())
	show(address)
	return publisher
}

func discover(endpoints []string, service string) {
	subscriber, err := discov.NewSubscriber(endpoints, service)
	check(err)
	list := func() {
		values := append([]string{}, subscriber.Values()...)
		slices.Sort(values)
		show(values)
	}
	list()
	subscriber.AddListener(list)
	select {}
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
