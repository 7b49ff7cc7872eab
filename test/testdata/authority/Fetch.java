// Fetch prints the first line of a page. Fetch.class is made of it: javac --release 11 Fetch.java
public class Fetch {
	public static void main(String[] args) throws Exception {
		System.out.println(new java.io.BufferedReader(new java.io.InputStreamReader(new java.net.URL(args[0]).openStream())).readLine());
	}
}
