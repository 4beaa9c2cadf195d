// Command scenario runs the steps of clients/SCENARIO.md against a server: `go run ./scenario HOST:PORT`.
// This file has the list of the steps, and what they share.
package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"

	pb "github.com/cognateserver/cognate/clients/go/cognatev1"
)

const (
	maxMessageBytes = 16 << 20
	dimensions      = 384
)

// scenario is what one step leaves to the next.
type scenario struct {
	address string
	client  pb.CognateClient
	// found is document 42 with its vector, as topk-text finds it.
	found *pb.Hit
}

var steps = []struct {
	name string
	run  func(*scenario, context.Context)
}{
	{"info", (*scenario).info},
	{"embed", (*scenario).embed},
	{"embed-int8", (*scenario).embedInt8},
	{"embed-stream", (*scenario).embedStream},
	{"similarity", (*scenario).similarity},
	{"upload", (*scenario).upload},
	{"topk-text", (*scenario).topKText},
	{"topk-vector", (*scenario).topKVector},
	{"topk-id", (*scenario).topKID},
	{"filter", (*scenario).filter},
	{"candidates", (*scenario).candidates},
	{"list", (*scenario).list},
	{"export", (*scenario).export},
	{"delete", (*scenario).delete},
	{"bad-request", (*scenario).badRequest},
	{"resource-info", (*scenario).resourceInfo},
	{"retry-info", (*scenario).retryInfo},
	{"deadline", (*scenario).deadline},
	{"cancel", (*scenario).cancel},
	{"message-size", (*scenario).messageSize},
	{"drop", (*scenario).drop},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: scenario HOST:PORT, or scenario keys")
		os.Exit(2)
	}
	if os.Args[1] == "keys" {
		checkKeys()
		return
	}
	conn := connect(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	defer conn.Close()
	s := &scenario{address: os.Args[1], client: pb.NewCognateClient(conn)}
	for _, step := range steps {
		s.step(step.name, step.run)
	}
	if os.Getenv("SCENARIO_TLS") == "" {
		fmt.Println("skipped tls-key")
		return
	}
	s.step("tls-key", (*scenario).tlsKey)
}

// step runs a step with a deadline, and prints its name when it has passed.
func (s *scenario) step(name string, run func(*scenario, context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	failing = name
	run(s, ctx)
	fmt.Println("ok", name)
}

// connect opens a connection that receives answers of up to max_message_bytes.
func connect(address string, options ...grpc.DialOption) *grpc.ClientConn {
	limit := grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes))
	conn, err := grpc.NewClient(address, append([]grpc.DialOption{limit}, options...)...)
	must(err)
	return conn
}

// failing is the step in progress.
var failing string

// check ends the program if a condition does not hold.
func check(holds bool, format string, found ...any) {
	if !holds {
		fmt.Fprintf(os.Stderr, failing+": "+format+"\n", found...)
		os.Exit(1)
	}
}

func must(err error) {
	check(err == nil, "%v", err)
}

func checkCode(err error, expected ...codes.Code) {
	check(slices.Contains(expected, grpcstatus.Code(err)), "%v was expected, and found: %v", expected, err)
}

// detail returns the detail of a type in a status.
func detail[T any](status *status.Status) T {
	for _, detail := range grpcstatus.FromProto(status).Details() {
		if found, ok := detail.(T); ok {
			return found
		}
	}
	var wanted T
	check(false, "no %T in %v", wanted, status)
	return wanted
}

// checkField demands that a status is INVALID_ARGUMENT and names one field.
func checkField(status *status.Status, field string) {
	check(codes.Code(status.GetCode()) == codes.InvalidArgument, "the status %v", status)
	violations := detail[*errdetails.BadRequest](status).FieldViolations
	check(len(violations) == 1 && violations[0].Field == field, "%s was expected, and found: %v", field, violations)
}

func statusOf(err error) *status.Status {
	return grpcstatus.Convert(err).Proto()
}

func cosine(a, b []float32) float64 {
	check(len(a) == len(b), "lengths of %d and %d", len(a), len(b))
	var product, lengthA, lengthB float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		product, lengthA, lengthB = product+x*y, lengthA+x*x, lengthB+y*y
	}
	return product / math.Sqrt(lengthA*lengthB)
}
