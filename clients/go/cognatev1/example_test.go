package cognatev1_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "github.com/cognateserver/cognate/clients/go/cognatev1"
)

// Ranks three texts by how near they are to a query.
func Example() {
	conn, err := grpc.NewClient("127.0.0.1:50051",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// Answers have up to 16 MiB; gRPC's own limit is 4 MiB.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := pb.NewCognateClient(conn)

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	response, err := client.TopK(ctx, &pb.TopKRequest{
		Queries:    []*pb.Query{{Query: &pb.Query_Text{Text: "a vehicle on rails"}}},
		Candidates: []string{"a loaf of bread", "a train", "a sleeping cat"},
		K:          3,
		WithText:   true,
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, hit := range response.Results[0].Hits {
		fmt.Printf("%.3f %s\n", hit.Score, hit.Text)
	}
}

// Repeats a call as long as the server says when to try again, within the deadline of the context.
func Example_retry() {
	retry := func(ctx context.Context, call func() error) error {
		for {
			err := call()
			var info *errdetails.RetryInfo
			for _, detail := range status.Convert(err).Details() {
				if found, ok := detail.(*errdetails.RetryInfo); ok {
					info = found
				}
			}
			if info == nil {
				return err
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(info.RetryDelay.AsDuration()):
			}
		}
	}

	var client pb.CognateClient // as in the first example
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var response *pb.EmbedResponse
	err := retry(ctx, func() (err error) {
		response, err = client.Embed(ctx, &pb.EmbedRequest{Texts: []string{"hello"}})
		return err
	})
	fmt.Println(response, err)
}

// bearer sends a key with each call of a connection, and only over TLS.
type bearer string

func (key bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(key)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

// Connects by TLS to a server whose certificate an own authority signed, and sends a key with each call.
func Example_key() {
	trust, err := credentials.NewClientTLSFromFile("ca.pem", "")
	if err != nil {
		log.Fatal(err)
	}
	conn, err := grpc.NewClient("search.example.com:50051",
		grpc.WithTransportCredentials(trust), grpc.WithPerRPCCredentials(bearer("cgn_...")))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
}
